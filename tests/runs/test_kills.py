"""A run that is killed at any instant, and resumed, ends with the bits of a run that was never stopped."""

import dataclasses
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("the processes that are killed are forked", allow_module_level=True)

from children import Child
from file_calls import Calls, end_process
from undisturbed import CONFIGS, Undisturbed, result, undisturbed, weights_of

import npgpt.runs.training as training
from npgpt.cli import main
from npgpt.errors import RunError
from npgpt.machine.pool import set_num_threads
from npgpt.runs import Run, load_run, train_run
from npgpt.runs.checkpoint import State, steps_of

PROFILE = os.environ.get("NPGPT_PROFILE", "quick")
KILLS = {"deep": 36}.get(PROFILE, 3)  # of each of the seven configurations, and of --overwrite
SEED = random.SystemRandom().randrange(10**9) if PROFILE == "deep" else 0

pytestmark = pytest.mark.filterwarnings("ignore:compiled attention has no tiled kernel")


def start(folder: Path, whole: Undisturbed, random: random.Random, calls: Calls) -> Child:
    """Go on with the run in a folder in a child process, or start it."""
    n_threads, as_command, resume = random.choice((1, 2)), random.random() < 0.25, may_go_on(folder, whole)

    def work(announce: Callable[[int], Any]) -> Any:
        set_num_threads(n_threads)
        with calls.counted():
            if as_command and resume:
                return main(["train", "--resume", str(folder)])
            where: dict[str, Any] = {"resume": folder} if resume else {"out": folder, "overwrite": True}
            train_run(None if resume else whole.config, **where, on_evaluation=lambda run, row: announce(row["step"]))
        return 0

    return Child(work)


def may_go_on(folder: Path, whole: Undisturbed) -> bool:
    """Return whether there is a checkpoint of the run; if there is one of an older run, it must be replaced again."""
    return bool(steps_of(folder / "checkpoints")) and load_run(folder).config == whole.config


def checked(folder: Path, whole: Undisturbed, announced: list[int], old: str = "") -> None:
    """Read the folder after a kill: a whole checkpoint, not older than what was announced; or an error if none was."""
    for last in (False, True):
        try:
            run = load_run(folder, last=last)
        except RunError:
            assert not announced and not old and not steps_of(folder / "checkpoints")
            continue
        if weights_of(run) != old:
            assert weights_of(run) == whole.weights[run.state.step] and run.config == whole.config
            assert not last or not announced or run.state.step >= announced[-1]
            assert [row["step"] for row in run.metrics] == sorted({row["step"] for row in run.metrics})
        else:
            assert not announced


def killed_somewhere(folder: Path, whole: Undisturbed, random: random.Random, boundary: bool, old: str = "") -> bool:
    """Start or resume, and kill. Return False if the process came to its end before."""
    left = 1.0
    if may := may_go_on(folder, whole):
        left = 1 - 0.9 * load_run(folder, last=True).state.step / whole.config.train.steps
    at = random.randint(1, max(1, int(whole.n_calls * left))) if boundary else 0
    child = start(folder, whole, random, Calls(folder, at, end_process(random.choice(("before", "after", "half")))))
    if not boundary:
        child.kill_after(random.random() * whole.seconds * left)
    code, announced = child.end()
    assert code in (0, -signal.SIGKILL)
    if code:
        checked(folder, whole, announced, "" if may else old)
    return code != 0


def finished(folder: Path, whole: Undisturbed) -> Run:
    """Go on to the end, in this process; from the start if no checkpoint was written."""
    with Calls(folder).counted():
        if may_go_on(folder, whole):
            return train_run(resume=folder)
        return train_run(whole.config, out=folder, overwrite=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole, draw = undisturbed(name), random.Random(f"{name} {SEED}")
    kills = 0
    while kills < KILLS:
        folder = tmp_path / str(kills)
        for _ in range(draw.choice((1, 1, 2, 3))):
            if not killed_somewhere(folder, whole, draw, boundary=kills % 3 == 0):
                break
            kills += 1
        assert result(finished(folder, whole)) == whole.result, f"seed {SEED}"


def test_a_kill_during_overwrite_leaves_the_old_run_or_the_new_one(tmp_path: Path) -> None:
    whole, older = undisturbed("compiled"), undisturbed("compiled-dropout")
    old, draw = weights_of(load_run(older.folder)), random.Random(SEED)
    first = Calls(tmp_path / "first")  # up to the first checkpoint, where the old run is replaced
    shutil.copytree(older.folder, tmp_path / "first")
    with first.counted(), pytest.raises(InterruptedError):
        train_run(whole.config, out=tmp_path / "first", overwrite=True, on_evaluation=_interrupted)
    every = range(1, len(first.seen) + 1)
    for at in every if PROFILE == "deep" else draw.sample(every, 2 * KILLS):
        folder = tmp_path / str(at)
        shutil.copytree(older.folder, folder)
        child = start(folder, whole, draw, Calls(folder, at, end_process(draw.choice(("before", "after", "half")))))
        code, announced = child.end()
        assert code == -signal.SIGKILL
        checked(folder, whole, announced, old)
        assert result(finished(folder, whole)) == whole.result, f"seed {SEED}, call {at}: {first.seen[at - 1]}"


def _interrupted(*_: object) -> None:
    raise InterruptedError


def _broken_restore(change: Callable[[Any], Any]) -> Any:
    restore = training.restore

    def broken(path: Path, model: Any, optimizer: Any, state: State) -> None:
        restore(path, model, optimizer, state)
        change(optimizer)

    return broken


def _broken_state(**changed: Any) -> Any:
    read_state = training.read_state
    return lambda path: dataclasses.replace(read_state(path), **changed)


def _off_by_one(by: int) -> Any:
    read_state = training.read_state

    def broken(path: Path) -> State:
        state = read_state(path)
        return dataclasses.replace(state, step=state.step + by)

    return broken


BROKEN: dict[str, tuple[str, Callable[[], Any], str]] = {  # what is replaced, by what, and what differs then
    "first moment": ("restore", lambda: _broken_restore(lambda o: o.mean.fill(0)), "model.safetensors"),
    "second moment": ("restore", lambda: _broken_restore(lambda o: o.square.fill(0)), "model.safetensors"),
    "powers of beta": ("restore", lambda: _broken_restore(lambda o: vars(o).update(power2=1.0)), "model.safetensors"),
    "training losses": ("read_state", lambda: _broken_state(losses=(0.0, 0)), "rows"),
    "schedule": ("read_state", lambda: _broken_state(schedule_from=10), "model.safetensors"),
    "a step too few": ("read_state", lambda: _off_by_one(-1), "model.safetensors"),
    "a step too many": ("read_state", lambda: _off_by_one(1), "model.safetensors"),
    "rows": ("up_to", lambda: lambda rows, step, row: rows[:1] + rows[2:], "rows"),
    "nothing": ("restore", lambda: training.restore, ""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_restore_is_found(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = undisturbed("compiled-dropout")  # has a checkpoint at step 10, between two evaluations

    def kill(run: Run, step: Any) -> None:
        if step.number == 11:
            os.kill(os.getpid(), signal.SIGKILL)

    with Calls(tmp_path).counted():
        child = Child(lambda announce: train_run(whole.config, out=tmp_path / "run", on_step=kill))
    assert child.end()[0] == -signal.SIGKILL and steps_of(tmp_path / "run" / "checkpoints")[-1] == 10
    name, broken, differs = BROKEN[what]
    monkeypatch.setattr(training, name, broken())
    found = result(finished(tmp_path / "run", whole))
    assert (found == whole.result) is (not differs)
    assert not differs or found[differs] != whole.result[differs]
