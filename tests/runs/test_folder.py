"""Who may write a run folder, what stays in it, and what a reader finds at every moment."""

import json
import os
import shutil
from pathlib import Path

import pytest
from tiny import SMALL, TEXTS, checkpoints, rows, small

from npgpt.errors import RunError
from npgpt.runs import Run, load_run, newest_run, train_run
from npgpt.runs.checkpoint import write_checkpoint
from npgpt.runs.folder import RunFolder
from npgpt.runs.layout import FILES, FOLDERS
from npgpt.support.files import flush_folder
from npgpt.support.locks import FileLock
from npgpt.train import Step


@pytest.fixture
def run(tmp_path: Path) -> Path:
    train_run(SMALL, TEXTS, out=tmp_path / "run")
    return tmp_path / "run"


def test_overwrite_is_explicit_and_removes_only_files_of_the_run(run: Path) -> None:
    (run / "notes.txt").write_text("mine")
    before = load_run(run).model.flat.values.copy()  # type: ignore[union-attr]
    with pytest.raises(
        RunError, match="already holds a run; use another --out, --overwrite to replace it, or --resume"
    ):
        train_run(SMALL, TEXTS, out=run)
    assert (load_run(run).model.flat.values == before).all()  # type: ignore[union-attr]
    train_run(small(steps=2, seed=3), TEXTS, out=run, overwrite=True)
    assert (run / "notes.txt").read_text() == "mine"
    assert [path.name for path in checkpoints(run)] == ["2"]
    assert [row["step"] for row in rows(run)] == [0, 2]


def test_the_old_run_stays_until_the_new_one_has_a_checkpoint(run: Path) -> None:
    before = load_run(run).model.flat.values.copy()  # type: ignore[union-attr]

    def stop(*_: object) -> None:
        assert (load_run(run).model.flat.values == before).all()  # type: ignore[union-attr]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(small(seed=3), TEXTS, out=run, overwrite=True, on_start=stop)
    assert [row["step"] for row in rows(run)] == [0, 2, 4]
    folder = RunFolder.create(run, overwrite=True)
    folder.close()
    assert (load_run(run).model.flat.values == before).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [name for name in (*FILES, *FOLDERS) if name != "run.json"])
def test_foreign_files_are_not_overwritten(name: str, overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"{name} exists and is not a file of a run"):
        RunFolder.create(tmp_path, overwrite)
    assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_a_person_put_into_a_checkpoint_is_not_deleted(run: Path) -> None:
    mine = checkpoints(run)[0] / "notes.txt"
    mine.write_text("mine")
    with pytest.raises(RunError, match=r"notes.txt is not a file of a run, and is not deleted; move it"):
        train_run(SMALL, TEXTS, out=run, overwrite=True)
    train_run(small(steps=8), TEXTS, resume=run)
    assert [path.read_text() for path in run.rglob("notes.txt")] == ["mine"]


def test_symlinks_and_folders_are_not_overwritten(tmp_path: Path, run: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/metrics.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match=r"metrics.jsonl exists and is not a file of a run"):
        RunFolder.create(tmp_path / "new")
    assert not (tmp_path / "victim").exists()
    (run / "loss.png").unlink(missing_ok=True)
    (run / "loss.png").mkdir()
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(RunError, match=r"loss.png exists and is not a file of a run"):
        RunFolder.create(run, overwrite=True)
    assert sorted(path.name for path in run.iterdir()) == before
    (tmp_path / "nowhere").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match="is not a folder"):
        RunFolder.check(tmp_path / "nowhere", overwrite=False)


def test_a_replacement_that_was_interrupted_between_two_renames_is_undone(run: Path) -> None:
    before = load_run(run).model.flat.values.copy()  # type: ignore[union-attr]
    os.rename(run / "checkpoints", run / ".old")
    shutil.copytree(run / ".old", run / ".new")
    assert (load_run(run).model.flat.values == before).all()  # type: ignore[union-attr]
    train_run(small(steps=6), TEXTS, resume=run)
    assert not (run / ".old").exists() and not (run / ".new").exists()
    assert load_run(run, last=True).state.step == 6


def test_numbered_folders_are_made_by_one_process_each(tmp_path: Path) -> None:
    (tmp_path / "runs/1").mkdir(parents=True)
    one, two = RunFolder.create_next(tmp_path / "runs"), RunFolder.create_next(tmp_path / "runs")
    assert [one.path.name, two.path.name] == ["2", "3"]
    one.close()
    two.close()


def test_a_folder_has_one_writer(run: Path) -> None:
    writer = RunFolder.reopen(run)
    for again in ({"resume": run}, {"out": run, "overwrite": True}):
        with pytest.raises(RunError, match=rf"run is being written by process {os.getpid()}; wait for its end"):
            train_run(small(steps=6), TEXTS, **again)  # type: ignore[arg-type]
    assert load_run(run).state.step == 4  # reading needs no lock
    writer.close()
    train_run(small(steps=6), TEXTS, resume=run)


def test_a_forked_child_does_not_have_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", "it")
    (ready, says), (wait, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(says, b"x")
        os.close(end)
        os.read(wait, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        lock.release()
        FileLock(tmp_path / "lock", "it").release()
    finally:
        for file in (ready, says, wait, end):
            os.close(file)
        os.waitpid(child, 0)


def test_the_newest_run_is_the_one_that_was_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="there is no run in runs; train one with `npgpt train`"):
        load_run()
    for name in ("1", "2"):
        train_run(small(steps=2), TEXTS, out=Path("runs") / name)
    (tmp_path / "runs/3").mkdir()  # not a run
    train_run(small(steps=4), TEXTS, resume="runs/1")
    assert newest_run() == Path("runs/1")
    assert load_run().path == Path("runs/1/checkpoints/4")


def test_folders_are_flushed_where_the_system_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush_folder(tmp_path)

    def cannot(_: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", cannot)
    flush_folder(tmp_path)


def test_the_manifest_of_a_checkpoint_guards_every_file(run: Path) -> None:
    path = checkpoints(run)[-1]
    listed = json.loads((path / "manifest.json").read_text())["files"]
    assert {*listed, "manifest.json"} == {file.name for file in path.iterdir()}
    for name in listed:
        data = (path / name).read_bytes()
        for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b""):
            (path / name).write_bytes(damaged)
            with pytest.raises(RunError, match=f"{name} is damaged"):
                load_run(run, last=True)
        (path / name).write_bytes(data)
    (path / "model.safetensors").unlink()
    with pytest.raises(RunError, match="model.safetensors is missing: the copy is incomplete"):
        load_run(run, last=True)


def test_other_peoples_folders_beside_a_run_stay(tmp_path: Path) -> None:
    for name in (".gone", ".part", "3", "3.replaced", "not-finite"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    train_run(SMALL, TEXTS, out=tmp_path)
    train_run(small(steps=2), TEXTS, out=tmp_path, overwrite=True)
    train_run(small(steps=4), TEXTS, resume=tmp_path)
    assert len(list(tmp_path.glob("**/thesis.txt"))) == 5


def test_a_folder_that_was_moved_or_made_anew_is_not_written(tmp_path: Path) -> None:
    again = False

    def move(run: Run, step: Step) -> None:
        if step.number == 3:
            (tmp_path / "run").rename(tmp_path / "moved")
            if again:
                RunFolder.create(tmp_path / "run").close()

    for again in (False, True):  # noqa: B007  # ``move`` reads it
        with pytest.raises(RunError, match="run was moved or deleted while the run wrote into it"):
            train_run(SMALL, TEXTS, out=tmp_path / "run", on_step=move)
        assert not (tmp_path / "run/checkpoints").exists()
        assert load_run(tmp_path / "moved", last=True).state.step == 2
        train_run(None, TEXTS, resume=tmp_path / "moved")
        shutil.rmtree(tmp_path / "moved")
        shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_an_older_checkpoint_that_is_damaged_does_not_stop_a_run(tmp_path: Path) -> None:
    def spoil(run: Run, step: Step) -> None:
        if step.number == 5:
            (tmp_path / "run/checkpoints/2/state.json").write_text("x")
            (tmp_path / "run/checkpoints/3").mkdir()

    train_run(small(steps=8, keep=1), TEXTS, out=tmp_path / "run", on_step=spoil)
    assert load_run(tmp_path / "run").state.step in (0, 4, 6, 8)
    for _ in range(2):  # damaged twice
        (tmp_path / "run/checkpoints/8/state.json").write_text("x")
        with pytest.warns(UserWarning, match=r"is damaged|3/state.json is missing"):
            train_run(None, TEXTS, resume=tmp_path / "run")
    assert load_run(tmp_path / "run", last=True).state.step == 8


@pytest.mark.parametrize("link", ["checkpoints", "checkpoints/2"])
def test_links_to_another_disk_are_used_and_only_the_link_is_deleted(link: str, tmp_path: Path) -> None:
    train_run(small(keep=9), TEXTS, out=tmp_path / "run")
    (tmp_path / "run" / link).rename(tmp_path / "large")
    (tmp_path / "run" / link).symlink_to(tmp_path / "large")
    train_run(small(steps=6), TEXTS, resume=tmp_path / "run")
    assert load_run(tmp_path / "run", last=True).state.step == 6
    train_run(small(steps=2), TEXTS, out=tmp_path / "run", overwrite=True)
    assert load_run(tmp_path / "run", last=True).state.step == 2
    assert list((tmp_path / "large").iterdir())


def test_a_run_of_version_1_that_was_to_go_on_can_be_replaced(tmp_path: Path) -> None:
    names = ["run.json", "config.toml", "tokenizer.json", "model.safetensors", "metrics.jsonl"]
    (tmp_path / "run.json").write_text(json.dumps({"format": "npgpt-run", "version": 1, "files": names}))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="its one file of weights has no moments of AdamW"):
        train_run(SMALL, TEXTS, resume=tmp_path)
    assert not (tmp_path / "lock").exists()
    RunFolder.create(tmp_path, overwrite=True).close()  # and is killed
    train_run(SMALL, TEXTS, out=tmp_path, overwrite=True)
    assert load_run(tmp_path).state.step in (0, 2, 4)


def test_a_manifest_that_lists_nothing_does_not_end_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": "npgpt-run", "version": 2, "files": []}')
    with pytest.raises(RunError, match="run.json exists and is not a file of a run"):
        RunFolder.check(tmp_path, overwrite=True)


def test_a_persons_files_stay_however_often_their_checkpoint_is_written_again(tmp_path: Path) -> None:
    train_run(SMALL, TEXTS, out=tmp_path / "run")
    for steps in (6, 8, 10):  # another total: the checkpoint is written again at once
        (checkpoints(tmp_path / "run")[-1] / "notes.txt").write_text(f"mine {steps}")
        train_run(small(steps=steps), TEXTS, resume=tmp_path / "run", stop=lambda: True)
    assert {path.read_text() for path in tmp_path.rglob("notes.txt")} == {"mine 6", "mine 8", "mine 10"}
    for name in ("one", "two"):  # the same checkpoint twice
        loaded, newest = load_run(tmp_path / "run", last=True), checkpoints(tmp_path / "run")[-1]
        (newest / "notes.txt").write_text(name)
        write_checkpoint(newest.parent, loaded.config, loaded.tokenizer, loaded.model, None, loaded.state)
    assert {"one", "two"} < {path.read_text() for path in tmp_path.rglob("notes.txt")}
