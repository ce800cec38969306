"""The modules of the page, one by one, in the browser."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.study.explain.page import MODULES, script

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def modules(chromium: Any) -> Iterator[Any]:
    """A page with all modules and without data: a function that evaluates an expression."""
    shown = chromium.new_page()
    shown.set_content("<!doctype html><body></body>")
    shown.add_script_tag(content=script([name for name in MODULES if name != "start"]))
    yield shown.evaluate
    shown.close()


def test_numbers_are_short_and_keep_their_sign(modules: Any) -> None:
    cases = {
        "0": "0", "-0": "0", "0.0149508": "0.015", "-0.000031": "−3.1e−5", "123456": "1.2e5", "-Infinity": "−∞",
        "NaN": "NaN", "1e-300": "1.0e−300", "99999.9": "100000", "-1.5": "−1.5", "0.001": "0.001",
        "0.00099999": "1.0e−3",
    }  # fmt: skip
    for number, right in cases.items():
        assert modules(f"show({number})") == right, number
        assert len(right) <= 9
    assert modules("exact(-0.0065782481)") == "−0.006578248" and modules("exact(1e-9)") == "1.00000e−9"
    assert (
        modules("percent(-0.001)") == "−0.1 %"
        and modules("percent(0.42)") == "42 %"
        and modules("plural(1, 'cell')") == "1 cell"
    )


def test_erf(modules: Any) -> None:
    for x in [*np.linspace(-7, 7, 57), 1e-12, -1e-300, 0.0]:
        assert abs(modules(f"erf({float(x)!r})") - math.erf(x)) < 1e-15


@given(data=st.data())
def test_solve_finds_every_index_of_a_cell(modules: Any, data: st.DataObject) -> None:
    """Also where two letters lead to the same cells, and where a stride is negative."""
    letters = data.draw(st.lists(st.sampled_from("bthdcf"), unique=True, max_size=4))
    sizes = {letter: data.draw(st.integers(1, 4), letter) for letter in letters}
    strides = {letter: data.draw(st.sampled_from([-7, -3, -1, 1, 2, 3, 5, 12]), letter) for letter in letters}
    offset = data.draw(st.integers(0, 60))
    indices = [dict(zip(letters, at, strict=True)) for at in np.ndindex(*(sizes[letter] for letter in letters))]
    flat = data.draw(st.integers(0, 80))
    wanted = [at for at in indices if offset + sum(strides[c] * at[c] for c in letters) == flat]
    view = json.dumps({"offset": offset, "strides": strides})
    found = modules(f"solve({view}, {json.dumps(sizes)}, {flat})")
    assert sorted(map(str, ({c: int(at[c]) for c in letters} for at in found))) == sorted(
        str({c: int(at[c]) for c in letters}) for at in wanted
    )


@given(B=st.integers(1, 3), M=st.integers(1, 4), N=st.integers(1, 4), K=st.integers(1, 4))
def test_accumulate_multiplies_matrices(modules: Any, B: int, M: int, N: int, K: int) -> None:
    rng = np.random.default_rng(B * 64 + M * 16 + N * 4 + K)
    a, b = rng.normal(size=(B, M, K)), rng.normal(size=(N, K))  # b is transposed in the product
    strides = {"b": M * N, "m": N, "n": 1}, {"b": M * K, "m": K, "k": 1}, {"n": K, "k": 1}
    out, mine, theirs = (json.dumps({"offset": 0, "strides": each}) for each in strides)
    sizes = json.dumps({"b": B, "m": M, "n": N, "k": K})
    found = modules(
        f"""() => {{ const out = new Float64Array({B * M * N}), size = new Float64Array(out.length);
        accumulate({sizes}, 2, out, {out}, [[{a.ravel().tolist()}, {mine}], [{b.ravel().tolist()}, {theirs}]], size);
        return [[...out], [...size]]; }}"""
    )
    assert np.allclose(np.reshape(found[0], (B, M, N)), 2 * a @ b.T, rtol=1e-14, atol=1e-14)
    assert np.allclose(np.reshape(found[1], (B, M, N)), 2 * np.abs(a) @ np.abs(b).T, rtol=1e-14)


def test_formulas_are_typeset(modules: Any) -> None:
    assert modules("typeset('dW_cf = Σ_bt x_btc').innerHTML") == "dW<sub>cf</sub> = Σ<sub>bt</sub> x<sub>btc</sub>"
    assert modules("typeset('e^(s_j)/Z').innerHTML") == "e<sup>s<sub>j</sub></sup>/Z"
    assert modules("typeset('Σ_{j<=i} ds').innerHTML") == "Σ<sub>j&lt;=i</sub> ds"
    assert modules("typeset('P_t,2c is ``W_cf``, IGNORE_INDEX').innerHTML") == (
        "P<sub>t,2c</sub> is W<sub>cf</sub>, IGNORE_INDEX"
    )
    assert modules("typeset('<b>').innerHTML") == "&lt;b&gt;"


def test_tolerance_lets_rounding_pass_and_nothing_else(modules: Any) -> None:
    for equal in ("1, 1 + 1e-15, 1", "1e-17, 0, 1", "-Infinity, -Infinity, 0"):
        assert modules(f"agrees({equal})")
    for other in ("1, 1 + 1e-9, 1", "1e-17, 0, 0", "NaN, 1, 1"):
        assert not modules(f"agrees({other})")


def test_arrays_are_unpacked_to_the_bit(modules: Any) -> None:
    from npgpt.study.explain.carried import packed

    for array in (np.array([0.1, -0.0, np.inf, 5e-324]), np.array([1.5], np.float32), np.array([-3, 7], np.int32)):
        read = f"const bytes = [...new Uint8Array(unpack({json.dumps(packed(array))}).buffer)];"
        older = "const own = Uint8Array.fromBase64; Uint8Array.fromBase64 = undefined;"
        for before, after in (("", ""), (older, "if (own) Uint8Array.fromBase64 = own;")):
            assert bytes(modules(f"() => {{ {before} {read} {after} return bytes; }}")) == array.tobytes()
