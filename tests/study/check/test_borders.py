"""Every gradient beyond the borders that the checker's usual sizes do not cross: heads, ids, rows, axes."""

import numpy as np
import pytest

from npgpt.study.check.cases import BORDERS, CASES, compile_case, make_case
from npgpt.study.check.checker import upstream
from npgpt.study.check.subjects import LayerSubject


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("name", CASES)
def test_textbook_and_compiled_gradients_are_those_of_the_tape(name: str, border: str) -> None:
    case = make_case(f"{name}@{border}")
    textbook, compiled = LayerSubject(case), LayerSubject(compile_case(case))
    dy = upstream(textbook.forward({}))
    truth = textbook.gradients_by_tape(dy)
    for subject, dtype, tolerance in ((textbook, np.float64, 1e-12), (compiled, np.float32, 2e-5)):
        for tensor, grad in subject.gradients(dy.astype(dtype)).items():
            if tensor in truth:
                size = max(np.linalg.norm(truth[tensor]), np.linalg.norm(dy))
                assert np.linalg.norm(grad - truth[tensor]) <= tolerance * size, (tensor, dtype)


def test_cases_cross_the_borders() -> None:
    cases = {name: [make_case(name), *(make_case(f"{name}@{border}") for border in BORDERS)] for name in CASES}
    ids = [case.inputs["ids"] for case in cases["Embedding"]]
    assert {x.ndim for x in ids} == {1, 2} and max(x.max() for x in ids) >= 64 and max(x.size for x in ids) > 64
    assert all(np.bincount(x.ravel()).max() >= 3 for x in ids)
    assert {case.inputs["x"].ndim for case in cases["Linear"]} == {2, 3}
    assert max(case.sizes["H"] for case in cases["Attention"]) == 4
    assert np.abs(cases["TanhGELU"][0].inputs["x"]).max() > 4
    gpt = cases["GPT-tied"][0].layer.gpt  # type: ignore[attr-defined]
    assert gpt.config.n_layer == 3 and gpt.config.context_length == cases["GPT-tied"][0].sizes["T"]
