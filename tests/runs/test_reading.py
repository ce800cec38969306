"""The run folder: round trip, errors for damaged files, and no change to foreign files."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, RunConfig
from npgpt.errors import ConfigError, NpgptError, RunError, TokenizerError
from npgpt.model import GPT
from npgpt.runs import Run, load_run, weights
from npgpt.runs.folder import RunFolder
from npgpt.runs.weights import load_model, save_model
from npgpt.support.files import read_text, write_atomically
from npgpt.tokenizer import BPETokenizer, CharTokenizer

TOKENIZER = CharTokenizer.train("abc")
CONFIG = RunConfig(model=GPTConfig(vocab_size=5, context_length=4, n_layer=1, n_head=1, n_embd=4))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of version 1: one file of weights, and no checkpoints."""
    path = tmp_path / "run"
    path.mkdir()
    names = [
        "run.json",
        "config.toml",
        "tokenizer.json",
        "model.safetensors",
        "metrics.jsonl",
        "loss.png",
        "record.jsonl",
    ]
    (path / "run.json").write_text(json.dumps({"format": "npgpt-run", "version": 1, "files": names}))
    (path / "config.toml").write_text(CONFIG.dumps())
    TOKENIZER.save(path / "tokenizer.json")
    save_model(path / "model.safetensors", make_gpt(CONFIG.model, seed=1))
    (path / "metrics.jsonl").write_text('{"step": 0}\n')
    return path


@pytest.mark.parametrize("tie_weights", [True, False])
def test_run_folder_round_trip(tie_weights: bool, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, tie_weights=tie_weights))
    model = make_gpt(config.model, seed=5)
    Run(config, TOKENIZER, model).save(tmp_path / "run")
    loaded = load_run(tmp_path / "run")
    assert loaded.config == config
    assert loaded.tokenizer.encode("abc") == TOKENIZER.encode("abc")
    assert np.array_equal(loaded.model.flat.values, model.flat.values)
    assert (loaded.model.lm_head.weight is loaded.model.embedding.weight) == tie_weights


@pytest.mark.parametrize("name", ["run.json", "config.toml", "tokenizer.json", "model.safetensors"])
def test_missing_or_truncated_file_is_named(name: str, run: Path) -> None:
    data = (run / name).read_bytes()
    for cut in (0, 1, len(data) // 2, *([] if name == "config.toml" else [len(data) - 2])):  # it ends with a comment
        (run / name).write_bytes(data[:cut])
        with pytest.raises(NpgptError, match=name):
            load_run(run)
    (run / name).unlink()
    with pytest.raises(RunError, match=f"{name}.* is missing"):
        load_run(run)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"format": "npgpt-run", "version": true, "files": []}', "version True; this npgpt reads versions 1 and 2"),
        ("[]", "not a manifest"),
        ('{"format": "npgpt-run", "version": 3, "files": []}', "version 3; this npgpt reads versions 1 and 2"),
        ('{"format": "npgpt-run", "version": 1, "files": ["../precious"]}', "files that a run does not have"),
        ('{"format": "npgpt-run", "version": 1, "files": [["run.json"]]}', "files that a run does not have"),
        ('{"format": "npgpt-run", "version": 1}', "files that a run does not have"),
        ("[" * 100_000, "damaged"),
    ],
)
def test_damaged_or_hostile_manifest_is_rejected(manifest: str, message: str, run: Path) -> None:
    (run.parent / "precious").write_text("x")
    (run / "run.json").write_text(manifest)
    with pytest.raises(RunError, match=message):
        load_run(run)
    with pytest.raises(RunError, match=message):
        RunFolder.create(run, overwrite=True)
    assert (run.parent / "precious").exists()
    assert (run / "model.safetensors").exists()


def change(run: Path, **tensors: np.ndarray | None) -> None:
    path = run / "model.safetensors"
    changed = safetensors.numpy.load_file(path) | {name.replace("__", "."): x for name, x in tensors.items()}
    safetensors.numpy.save_file({name: x for name, x in changed.items() if x is not None}, path)


def test_invalid_tensors_are_named(run: Path) -> None:
    good = (run / "model.safetensors").read_bytes()
    for tensors, message in (
        ({"norm__gain": None}, "the tensor norm.gain is missing"),
        ({"extra": np.zeros(1, np.float32)}, "the tensor 'extra' is unknown"),
        (
            {"norm__gain": np.zeros(5, np.float32)},
            r"norm.gain is float32 \(5,\), expected float32 \(4,\) by config.toml",
        ),
        ({"norm__gain": np.zeros(4)}, r"norm.gain is float64"),
        ({"norm__gain": np.array([1, np.nan, 1, 1], np.float32)}, "norm.gain has infinite or NaN values"),
    ):
        (run / "model.safetensors").write_bytes(good)
        change(run, **tensors)
        with pytest.raises(RunError, match=message) as caught:
            load_run(run)
        assert "model.safetensors" in str(caught.value)


def test_files_of_different_runs_are_rejected(run: Path) -> None:
    CharTokenizer.train("abcdef").save(run / "tokenizer.json")
    with pytest.raises(RunError, match="tokenizer.json has 8 tokens, but vocab_size in config.toml is 5"):
        load_run(run)
    (run / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="not a tokenizer file of npgpt"):
        load_run(run)
    (run / "config.toml").write_text("[model]\nn_emdb = 3")
    with pytest.raises(ConfigError, match="did you mean n_embd"):
        load_run(run)


def test_hostile_configuration_does_not_allocate_a_huge_model(run: Path) -> None:
    text = (run / "config.toml").read_text()
    for changed in (
        text.replace("n_layer = 1", "n_layer = 2000000000"),
        text.replace("n_embd = 4", "n_embd = 40000000"),
    ):
        (run / "config.toml").write_text(changed)
        with pytest.raises(RunError, match="does not fit config.toml: it has 1 blocks"):
            load_run(run)


def test_vocabulary_without_end_of_text_is_rejected(run: Path) -> None:
    BPETokenizer([], special_tokens=["a", "b"]).save(run / "tokenizer.json")
    with pytest.raises(RunError, match=r"has no token <\|endoftext\|>"):
        load_run(run)


def test_file_instead_of_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(RunError, match="is not a folder; give a folder for"):
        RunFolder.check(tmp_path / "run", overwrite=True)
    with pytest.raises(RunError, match="is not a folder"):
        load_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"run.json is missing"):
        load_run(tmp_path)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, GPT(CONFIG.model))
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "no space left")

    for step in ("fsync", "replace"):
        monkeypatch.setattr(f"os.{step}", full_disk)
        with pytest.raises(OSError, match="no space"):
            save_model(path, GPT(CONFIG.model, seed=1))
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        monkeypatch.undo()


def test_files_have_the_same_mode_as_with_open(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_text_file_encodings(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffé\r\nb\rc\n".encode())
    assert read_text(path) == "é\nb\nc\n"
    path.write_bytes("é".encode("utf-16"))
    with pytest.raises(NpgptError, match="iconv -f utf-16"):
        read_text(path)
    path.write_bytes(b"ab\0c")
    with pytest.raises(NpgptError, match="holds a NUL at character 2"):
        read_text(path)
    path.write_bytes(b"ab\xe9c")
    with pytest.raises(NpgptError, match="byte 0xe9 at offset 2; convert"):
        read_text(path)


def test_metrics_are_lines_of_json(run: Path) -> None:
    assert [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] == [{"step": 0}]


@pytest.mark.filterwarnings("ignore:compiled attention has no tiled kernel")
@pytest.mark.parametrize(
    ("changed", "large"),
    [
        ({"positions": "relative-bias"}, {"context_length": 2**30}),
        ({"positions": "relative-keys"}, {"context_length": 2**30}),
        ({"combine": "concatenate"}, {"context_length": 2**30}),
        ({"positions": "sinusoidal", "combine": "concatenate"}, {"n_position": 2**30}),
    ],
)
def test_hostile_positions_do_not_allocate_a_huge_model(
    changed: dict[str, Any], large: dict[str, int], tmp_path: Path
) -> None:
    config = GPTConfig(11, 8, n_layer=1, n_head=2, n_embd=8, **changed)
    save_model(tmp_path / "model.safetensors", make_gpt(config, layers="textbook"))
    assert load_model(tmp_path / "model.safetensors", config).config == config
    with pytest.raises(RunError, match="does not fit"):
        load_model(tmp_path / "model.safetensors", dataclasses.replace(config, **large))


def test_run_folder_of_version_0_1_is_read_and_replaced(run: Path) -> None:
    """Its configuration has ``kernels``; its manifest lists ``ledger.jsonl``."""
    config = run / "config.toml"
    config.write_text("\n".join(line.replace("layers = ", "kernels = ") for line in config.read_text().splitlines()))
    manifest = json.loads((run / "run.json").read_text())
    manifest["files"][-1] = "ledger.jsonl"
    (run / "run.json").write_text(json.dumps(manifest))
    (run / "ledger.jsonl").write_text("{}\n")
    assert load_run(run).config == CONFIG
    Run(CONFIG, TOKENIZER, make_gpt(CONFIG.model)).save(run, overwrite=True)
    assert not (run / "ledger.jsonl").exists() and not (run / "model.safetensors").exists()
    assert load_run(run).config == CONFIG


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"[]", "line 2 must be an object"),
        (b'{"step": "3"}', "line 2: step must be a number, not '3'"),
        (b'{"step": NaN}', "line 2 is not JSON: NaN"),
        (b'{"step": 1' + b"0" * 5000 + b"}", "line 2 is not JSON: the integer 1000"),
        (b'{"step": 1, "step": 2}', "line 2 is not JSON: the key 'step' stands twice"),
        (b'{"step', "line 2 is not JSON"),
        (b'{"\xff": 1}', "line 2 is not UTF-8"),
        (b"[" * 100_000, "line 2 is not JSON of this kind"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_damaged_row_of_metrics_is_named(line: bytes, says: str, run: Path) -> None:
    (run / "metrics.jsonl").write_bytes(b'{"step": 0}\n' + line + b'\n{"step": 5}\n')
    with pytest.raises(RunError, match=f"metrics.jsonl, {says}"):
        load_run(run)


def test_a_run_folder_of_windows_is_read(run: Path) -> None:
    before = load_run(run)
    for name in ("run.json", "config.toml", "metrics.jsonl"):
        data = (run / name).read_bytes().replace(b"\n", b"\r\n")
        (run / name).write_bytes(b"\xef\xbb\xbf" + data)
    again = load_run(run)
    assert again.config == before.config and again.metrics == before.metrics
    for name in ("run.json", "config.toml", "metrics.jsonl"):
        (run / name).write_bytes(gzip.compress((run / name).read_bytes()))
    assert load_run(run).metrics == before.metrics


def test_weights_without_the_tensors_that_tell_the_sizes_are_refused(run: Path) -> None:
    change(run, embedding__weight=None, positions__weight=None)
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("n_embd = 4", "n_embd = 40000000"))
    with pytest.raises(RunError, match="the tensor embedding.weight is missing"):
        load_run(run)


def test_messages_about_hostile_weights_are_short(run: Path) -> None:
    for name in ("x" * 10**5, "blocks." + "y" * 10**5):
        change(run, **{name: np.zeros(1, np.float32)})
        with pytest.raises(RunError, match=r"model.safetensors") as caught:
            load_run(run)
        assert len(str(caught.value)) < 500
    (run / "model.safetensors").unlink()
    (run / "model.safetensors").mkdir()
    with pytest.raises(RunError, match=r"model.safetensors is missing"):
        load_run(run)


def test_metrics_that_are_no_file_are_refused(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.unlink()
    for make, remove in ((path.mkdir, path.rmdir), (lambda: path.symlink_to(run / "nowhere"), path.unlink)):
        make()
        with pytest.raises(RunError, match=r"metrics\.jsonl is not a file; remove it"):
            load_run(run)
        remove()


def test_truncated_metrics_are_read_up_to_the_damage(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5}\n{"step": 1')
    assert load_run(run).metrics == [{"step": 0}, {"step": 5}]
    (run / "metrics.jsonl").write_bytes(b"\n" * 10**6 + b'{"step": 0}\n' + bytes(100))  # after a power cut
    assert load_run(run).metrics == [{"step": 0}]
    (run / "metrics.jsonl").unlink()
    assert load_run(run).metrics == []


@pytest.mark.parametrize("piece", [1, 8, 100, 1 << 24])
def test_a_file_of_tensors_is_what_safetensors_writes(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PIECE", piece)
    rng = np.random.default_rng(0)
    for kind in (np.float32, np.float64, np.float16):
        tensors = {f"a.{n}": rng.standard_normal((n, 3)).astype(kind) for n in (0, 1, 2, 10, 40)}
        tensors |= {"b.é": rng.standard_normal((7, 5)).astype(kind).T[::2], "c": np.ones(1, kind)}
        whole = safetensors.numpy.save({name: np.ascontiguousarray(x) for name, x in tensors.items()}, {"format": "np"})
        found = [bytes(each) for each in weights.pieces(tensors)]
        assert b"".join(found) == whole
        assert max(map(len, found[1:]), default=0) <= piece  # the first one has the header
