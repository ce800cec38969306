"""``train_run``: what it calls, writes, refuses, and how a run goes on."""

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SMALL, TEXTS, checkpoints, hashes, rows, small

from npgpt.config import DataConfig, GPTConfig, RunConfig
from npgpt.errors import ConfigError, DataError, RunError, TrainingError
from npgpt.runs import Run, checkpoint, load_run, train_run


def test_run_is_trained_saved_and_loaded(tmp_path: Path) -> None:
    seen: list[Any] = []
    run = train_run(
        small(keep=9),
        TEXTS,
        out=tmp_path / "a",
        on_start=lambda run: seen.append(run.baselines.keys()),
        on_step=lambda run, step: seen.append(step.number),
        on_evaluation=lambda run, row: seen.append((row["step"], len(checkpoints(tmp_path / "a")))),
    )
    assert seen == [{"unigram_loss", "bigram_loss"}, (0, 1), 1, 2, (2, 2), 3, 4, (4, 3)]
    assert run.config.model.vocab_size == run.tokenizer.vocab_size < 60
    run.save(tmp_path / "b")
    for name in (
        "config.toml",
        "tokenizer.json",
        "metrics.jsonl",
        *(f"checkpoints/4/{n}" for n in checkpoint.FILES[:5]),
    ):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    loaded = load_run(tmp_path / "b")
    assert (loaded.metrics, loaded.baselines) == (run.metrics, run.baselines)
    assert np.array_equal(loaded.model.flat.values, run.model.flat.values)  # type: ignore[union-attr]
    with pytest.raises(RunError, match="already holds a run"):
        run.save(tmp_path / "b")


def test_one_string_is_one_document_and_empty_texts_are_rejected() -> None:
    assert train_run(SMALL, TEXTS[0]).train_ids.shape == train_run(SMALL, TEXTS[:1]).train_ids.shape  # type: ignore[union-attr, arg-type]
    for texts in ([], ["", " \n"]):
        with pytest.raises(DataError, match="no text to train on"):
            train_run(SMALL, texts)


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
def test_documents_in_one_text_are_separated_by_one_token(kind: str) -> None:
    config = dataclasses.replace(
        SMALL, data=DataConfig(tokenizer=kind), model=dataclasses.replace(SMALL.model, vocab_size=270)
    )
    run = train_run(config, "A cat sat.<|endoftext|>The dog sat on the log.\n<|endoftext|>\n" * 20)
    assert run.train_ids is not None and run.validation_ids is not None
    end = run.tokenizer.special_tokens["<|endoftext|>"]
    counts = [int((ids == end).sum()) for ids in (run.train_ids, run.validation_ids)]
    assert sum(counts) in (41, 42) and counts[1] >= 3  # 40, and one after each of the two parts, if it has none
    before_markers = "A cat sat.", " the log.\n"
    for text in before_markers:
        tail = run.tokenizer.encode(text)[-1]
        assert ((run.train_ids[:-1] == tail) & (run.train_ids[1:] == end)).any()
    assert "endoftext" not in run.tokenizer.decode([token for token in run.train_ids if token != end])


def stop_after(step: int) -> Callable[[], bool]:
    """Return a ``stop`` that is true from the ``step``-th call on, and so at an evaluation or after a step."""
    calls = iter(range(10**9))
    return lambda: next(calls) >= step


@pytest.mark.parametrize("layers", ["compiled", "textbook"])
@pytest.mark.parametrize("calls", [0, 1, 2, 4, 7, 11])
def test_a_run_that_stops_anywhere_and_goes_on_has_the_same_bits(calls: int, layers: str, tmp_path: Path) -> None:
    config = small(dropout=0.2, steps=7, eval_every=3, micro_batches=2, layers=layers, save_at=[1, 5])
    train_run(config, TEXTS, out=tmp_path / "whole")
    cut = train_run(config, TEXTS, out=tmp_path / "cut", stop=stop_after(calls))
    assert not cut.complete
    again = train_run(None, TEXTS, resume=tmp_path / "cut")
    assert again.complete
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    assert [path.name for path in checkpoints(tmp_path / "cut")][-2:] == ["5", "7"]


def test_a_run_that_is_saved_from_python_goes_on(tmp_path: Path) -> None:
    train_run(small(steps=6), TEXTS, out=tmp_path / "whole")
    train_run(small(steps=6), TEXTS, stop=stop_after(9)).save(tmp_path / "cut")
    train_run(None, TEXTS, resume=tmp_path / "cut")
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    loaded = load_run(tmp_path / "cut")
    loaded.save(tmp_path / "without")
    with pytest.raises(RunError, match=r"6 has no optimizer.safetensors, so training cannot go on"):
        train_run(small(steps=9), TEXTS, resume=tmp_path / "without")


def test_the_newest_the_best_and_those_asked_for_are_kept(tmp_path: Path) -> None:
    train_run(small(steps=12, learning_rate=0.5, warmup_steps=1, keep=1, save_at=[0, 3]), TEXTS, out=tmp_path / "run")
    found, steps = rows(tmp_path / "run"), [int(path.name) for path in checkpoints(tmp_path / "run")]
    best = min(found, key=lambda row: row["val_loss"])["step"]
    assert set(steps) == {0, 3, best, 10, 12}
    assert load_run(tmp_path / "run").state.step == best
    assert load_run(tmp_path / "run", last=True).state.step == 12
    third = load_run(tmp_path / "run/checkpoints/3")
    assert (third.state.step, third.state.val_loss, third.metrics[-1]["step"]) == (3, None, 2)
    shutil.copytree(tmp_path / "run/checkpoints/12", tmp_path / "alone")
    assert load_run(tmp_path / "alone").metrics[-1]["step"] == 12


def test_a_larger_total_has_a_new_schedule_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        train_run(SMALL, TEXTS, out=tmp_path / name)
    train_run(small(steps=9), TEXTS, resume=tmp_path / "whole")
    rates: list[float] = []

    def note(_: Run, step: Any) -> None:
        rates.append(step.learning_rate)

    train_run(small(steps=9), TEXTS, resume=tmp_path / "cut", stop=lambda: len(rates) > 1, on_step=note)
    train_run(None, TEXTS, resume=tmp_path / "cut", on_step=note)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert len(rates) == 5 and rates == sorted(rates)  # the five steps are all in the warm-up


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    train_run(SMALL, TEXTS, out=tmp_path / "run")
    before = rows(tmp_path / "run")
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "val_loss": 1.0}\n{"step": 8')
    (tmp_path / "run/record.jsonl").write_text('{"step": 2}\n{"step": 6}\n{"st')
    train_run(None, TEXTS, resume=tmp_path / "run")
    assert rows(tmp_path / "run") == before
    assert (tmp_path / "run/record.jsonl").read_text() == '{"step": 2}\n'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": {"learning_rate": 0.1}}, r"learning_rate is 0.1, but the run has 0.003 in \[train\]"),
        ({"train": {"seed": 1}}, "seed is 1, but the run has 0"),
        ({"train": {"layers": "textbook"}}, "layers is textbook, but the run has compiled"),
        ({"train": {"eval_every": 3}}, "eval_every is 3"),
        ({"train": {"steps": 3}}, "steps is the total, 3, but the run has done 4"),
        ({"model": {"n_layer": 2}}, r"n_layer is 2, but the run has 1 in \[model\]"),
        ({"model": {"tie_weights": False}}, "tie_weights is false, but the run has true"),
        ({"model": {"vocab_size": 61}}, "vocab_size is 61"),
        ({"data": {"tokenizer": "bpe"}}, "tokenizer is bpe, but the run has char"),
        ({"data": {"validation_fraction": 0.2}}, "validation_fraction is 0.2"),
    ],
    ids=str,
)
def test_another_setting_is_refused_by_name(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    train_run(SMALL, TEXTS, out=tmp_path / "run")
    asked = RunConfig.from_tables(
        {
            table: dataclasses.asdict(getattr(SMALL, table)) | change.get(table, {})
            for table in ("data", "model", "train")
        }
    )
    with pytest.raises(ConfigError, match=says):
        train_run(asked, TEXTS, resume=tmp_path / "run")
    train_run(small(keep=3, save_at=[2]), TEXTS, resume=tmp_path / "run")  # these decide no bits


def test_another_text_is_refused_and_a_moved_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("books").mkdir()
    for name, text in zip("ab", TEXTS, strict=True):
        Path(f"books/{name}.txt").write_text(text)
    config = dataclasses.replace(SMALL, data=DataConfig(text=["books"], tokenizer="char"))
    train_run(config, out="run")
    Path("books/c.txt").write_text("more")
    with pytest.raises(DataError, match=r"the text .*books/c.txt was not there when the run began"):
        train_run(None, resume="run")
    Path("books/c.txt").unlink()
    Path("books/b.txt").rename("moved.txt")
    with pytest.raises(DataError, match=r"books/b.txt of the run is missing now"):
        train_run(None, resume="run")
    Path("else").mkdir()
    Path("books/a.txt").rename("else/a.txt")
    Path("books").rmdir()
    assert train_run(None, resume="run").complete
    (tmp_path / "else/a.txt").write_text(TEXTS[0] + "x")
    with pytest.raises(DataError, match="else/a.txt|books/a.txt, a text of the run, is not there, and no file near"):
        train_run(None, resume="run")
    other = dataclasses.replace(config, data=DataConfig(text=["else/a.txt", "moved.txt"], tokenizer="char"))
    with pytest.raises(
        DataError, match=r"else/a.txt is not the one that the run began with, .*books/a.txt: its SHA-256"
    ):
        train_run(other, resume="run")


def test_other_versions_give_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_run(SMALL, TEXTS, out=tmp_path / "run")
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "numba" else real(name))
    with pytest.warns(UserWarning, match=r"the run began with other versions: numba 9.9 \(then "):
        train_run(None, TEXTS, resume=tmp_path / "run")


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    train_run(small(keep=9), TEXTS, out=tmp_path / "run")
    whole = hashes(tmp_path / "run")
    path = tmp_path / "run/checkpoints/4/optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="optimizer.safetensors is damaged.*it is now called damaged-4"):
        assert train_run(None, TEXTS, resume=tmp_path / "run").complete
    assert hashes(tmp_path / "run") == whole
    assert (tmp_path / "run/checkpoints/damaged-4").is_dir()
    for step in (0, 2, 4):
        shutil.rmtree(tmp_path / f"run/checkpoints/{step}")
    with pytest.raises(RunError, match="has no checkpoint from which training can go on: none is whole"):
        train_run(None, TEXTS, resume=tmp_path / "run")


def test_a_run_starts_from_the_weights_and_the_tokenizer_of_another(tmp_path: Path) -> None:
    first = train_run(SMALL, TEXTS, out=tmp_path / "run")
    made = train_run(small(dropout=0.1), "The frog sat on the log. " * 30, init=tmp_path / "run", stop=lambda: True)
    assert made.tokenizer.dumps() == first.tokenizer.dumps()
    assert made.config.model == dataclasses.replace(first.config.model, dropout=0.1)
    assert np.array_equal(made.model.flat.values, load_run(tmp_path / "run").model.flat.values)  # type: ignore[union-attr]
    by_default = train_run(RunConfig(train=SMALL.train), TEXTS, init=tmp_path / "run")
    assert by_default.config.model == first.config.model
    wider = dataclasses.replace(SMALL, model=dataclasses.replace(SMALL.model, n_embd=16))
    with pytest.raises(ConfigError, match="n_embd is 16, but the weights of --init are those of a model with 8"):
        train_run(wider, TEXTS, init=tmp_path / "run")
    with pytest.raises(ConfigError, match="resume and init contradict each other"):
        train_run(None, TEXTS, init=tmp_path / "run", resume=tmp_path / "run")


def test_a_run_that_diverges_ends_and_keeps_its_best_weights(tmp_path: Path) -> None:
    config = small(steps=60, learning_rate=1e-2, warmup_steps=1, eval_every=10)

    def spoil(run: Run, step: Any) -> None:
        if step.number > 30:
            run.model.flat.values[:] *= 1.5  # type: ignore[union-attr]

    with pytest.raises(TrainingError, match=r"step 50: the run is diverging: .* the weights of step 30 are kept"):
        train_run(config, TEXTS, out=tmp_path / "run", on_step=spoil)
    assert [row["step"] for row in rows(tmp_path / "run")] == [0, 10, 20, 30, 40, 50]
    assert load_run(tmp_path / "run").state.step == 30


def test_the_batch_that_gave_nan_is_kept(tmp_path: Path) -> None:
    def spoil(run: Run, step: Any) -> None:
        if step.number == 3:
            run.model.flat.values[0] = 3e38  # type: ignore[union-attr]

    with pytest.raises(TrainingError, match=r"step 4: training diverged.*step 2 are kept; look at the batch with"):
        train_run(small(steps=8, eval_every=2), TEXTS, out=tmp_path / "run", on_step=spoil)
    kept = load_run(tmp_path / "run/checkpoints/not-finite")
    assert kept.state.step == 3 and kept.model.flat.values[0] == np.float32(3e38)  # type: ignore[union-attr]
    batch = json.loads((tmp_path / "run/checkpoints/not-finite/batch.json").read_text())
    assert batch["step"] == 4 and np.shape(batch["x"]) == (2, 8)
    x, y = checkpoint.read_batch(tmp_path / "run/checkpoints/not-finite/batch.json", kept.config.model.vocab_size)
    assert x[0, 1:].tolist() == y[0, :-1].tolist()


def test_a_model_that_is_too_large_for_the_memory_is_refused_at_once(tmp_path: Path) -> None:
    large = RunConfig(model=GPTConfig(n_layer=100, n_head=8, n_embd=65536))
    with pytest.raises(ConfigError, match=r"parameters: weights, gradients and two moments, 16 bytes a parameter"):
        train_run(large, TEXTS, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
