"""A run goes on from its newest whole checkpoint, whichever file of whichever checkpoint is damaged."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from tiny import TEXTS, hashes, small

from npgpt.errors import RunError, TrainingError
from npgpt.runs import Run, load_run, train_run
from npgpt.runs.checkpoint import read_state
from npgpt.runs.folder import RunFolder
from npgpt.train import Step

CONFIG = small(keep=2, layers="textbook")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints 0, 2 and 3."""
    done: list[int] = []
    path = tmp_path_factory.mktemp("runs") / "run"
    train_run(CONFIG, TEXTS, out=path, on_step=lambda run, step: done.append(step.number), stop=lambda: 3 in done)
    return path


FILES = ["manifest.json", "config.toml", "tokenizer.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.mark.filterwarnings("ignore:.*is now called damaged")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("steps", [(0,), (2,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("way", ["cut", "missing"])
def test_a_damaged_checkpoint_makes_no_difference(
    name: str, steps: tuple[int, ...], way: str, stopped: Path, tmp_path: Path
) -> None:
    whole, path = shutil.copytree(stopped, tmp_path / "whole"), shutil.copytree(stopped, tmp_path / "run")
    for step in steps:
        file = path / "checkpoints" / str(step) / name
        file.unlink() if way == "missing" else file.write_bytes(file.read_bytes()[:-3])
    (path / "checkpoints" / "damaged-3").mkdir()
    (path / "checkpoints" / "damaged-3" / "of an earlier time").touch()
    for each in (whole, path):
        assert train_run(None, TEXTS, resume=each).complete
    assert hashes(path) == hashes(whole)


def test_a_row_that_lacks_a_loss_is_named(stopped: Path, tmp_path: Path) -> None:
    path = shutil.copytree(stopped, tmp_path / "run")
    (path / "metrics.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl: a row has no train_loss: {'step': 0}"):
        train_run(None, TEXTS, resume=path)


def test_a_run_without_its_metrics_goes_on(stopped: Path, tmp_path: Path) -> None:
    path = shutil.copytree(stopped, tmp_path / "run")
    (path / "metrics.jsonl").unlink()
    assert train_run(None, TEXTS, resume=path).complete


def test_a_record_with_a_broken_line_is_cut(stopped: Path, tmp_path: Path) -> None:
    path = shutil.copytree(stopped, tmp_path / "run")
    (path / "record.jsonl").write_text('{"step": 1}\n' + "[" * 100_000 + "\n")
    train_run(None, TEXTS, resume=path)
    assert (path / "record.jsonl").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"step": -1}, "step must be from 0"),
        ({"step": 10**15}, "step must be from 0"),
        ({"schedule_from": 9}, "schedule_from must be from 0 to 3"),
        ({"power1": 1.5}, "power1 must be from 0 to 1.0"),
        ({"losses": [1.0, -1]}, "losses must be a number and a count"),
    ],
    ids=str,
)
def test_an_impossible_state_is_refused(changed: dict[str, object], says: str, stopped: Path, tmp_path: Path) -> None:
    path = shutil.copytree(stopped / "checkpoints" / "3", tmp_path / "3")
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | changed))
    with pytest.raises(RunError, match=rf"state\.json is damaged: {says}"):
        read_state(path)


def test_a_saved_run_may_have_a_row_without_losses(stopped: Path, tmp_path: Path) -> None:
    run = load_run(stopped)
    run.metrics = [{"step": run.state.step}]
    run.save(tmp_path / "saved")
    assert load_run(tmp_path / "saved").metrics == run.metrics


def test_what_a_link_leads_to_is_not_changed(stopped: Path, tmp_path: Path) -> None:
    path, other = shutil.copytree(stopped, tmp_path / "run"), tmp_path / "other"
    (path / "checkpoints").rename(other)
    (path / "checkpoints").symlink_to(other)
    assert train_run(CONFIG, TEXTS, out=path, overwrite=True).complete
    assert sorted(file.name for file in other.iterdir()) == ["0", "2", "3"]
    (other / "precious").write_text("precious")
    (path / "lock").unlink()
    (path / "lock").symlink_to(other / "precious")
    with pytest.raises(RunError, match=r"lock is a link, a folder or a pipe; remove it"):
        train_run(None, TEXTS, resume=path)
    assert (other / "precious").read_text() == "precious"


def test_a_full_disk_does_not_hide_that_training_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(run: Run, step: Step) -> None:
        assert run.model.flat is not None
        if step.number == 3:
            run.model.flat.values[0] = 3e38

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunFolder, "save_batch", full)
    with pytest.raises(TrainingError, match=r"step 4: training diverged.*batch could not be kept: No space left"):
        train_run(small(steps=8, eval_every=2), TEXTS, out=tmp_path / "run", on_step=spoil)


def test_a_checkpoint_is_told_from_its_run_folder(stopped: Path) -> None:
    with pytest.raises(
        RunError, match=r"checkpoints/3 is not a run folder: run.json is missing; it is in the run folder"
    ):
        train_run(None, TEXTS, resume=stopped / "checkpoints" / "3")
