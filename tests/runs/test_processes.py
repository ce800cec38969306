"""Processes side by side, and signals through the real command line."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

if not hasattr(os, "fork"):
    pytest.skip("the processes are forked, and get signals", allow_module_level=True)

from children import Child
from file_calls import Calls
from undisturbed import CONFIGS, result, undisturbed, weights_of, with_files

from npgpt.config import RunConfig
from npgpt.errors import RunError
from npgpt.runs import load_run, train_run
from npgpt.runs.checkpoint import steps_of
from npgpt.runs.metrics import read_metrics

PROFILE = os.environ.get("NPGPT_PROFILE", "quick")
TIMES = {"quick": 2, "ci": 6, "deep": 100}[PROFILE]
SIGNALS = {"quick": 1, "ci": 4, "deep": 60}[PROFILE]
REFUSED, DONE = 3, 0


def short(name: str, **train: Any) -> RunConfig:
    config = with_files(CONFIGS[name])
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **{"steps": 2, "save_at": []} | train))


def together(*works: Any) -> list[int]:
    """Run works in children that start at once. Return the exit codes."""
    with Calls(Path("/")).counted():  # nothing is flushed
        children = [Child(work) for work in works]
        return [child.end()[0] for child in children]


def test_simultaneous_starts_get_different_folders(tmp_path: Path) -> None:
    config = short("compiled", steps=1)
    train_run(config)  # the kernels are compiled
    for number in range(TIMES):
        runs = tmp_path / str(number)
        assert together(*[lambda announce: train_run(config, runs=runs) and 0] * 4) == [0] * 4  # noqa: B023
        assert sorted(path.name for path in runs.iterdir()) == ["1", "2", "3", "4"]
        assert len({weights_of(load_run(path)) for path in runs.iterdir()}) == 1


def overwriting(config: RunConfig, out: Path, overwrite: bool = True) -> Any:
    def work(announce: Any) -> int:
        try:
            train_run(config, out=out, overwrite=overwrite)
        except RunError as error:
            assert str(out) in str(error) and re.search("being written by|already holds a run", str(error)), error
            return REFUSED
        return DONE

    return work


@pytest.mark.parametrize(("old", "overwrite"), [(True, True), (False, True), (False, False)])
def test_two_processes_with_one_folder_never_mix(old: bool, overwrite: bool, tmp_path: Path) -> None:
    a, b = short("compiled"), short("compiled-dropout", seed=1)
    expected = {config.dumps(): weights_of(train_run(config)) for config in (a, b)}
    for number in range(TIMES):
        out = tmp_path / str(number)
        if old:
            train_run(a, out=out)
        codes = together(overwriting(a, out, overwrite), overwriting(b, out, overwrite))
        assert set(codes) <= {DONE, REFUSED} and DONE in codes and (overwrite or REFUSED in codes)
        run = load_run(out, last=True)
        assert weights_of(run) == expected[run.config.dumps()]
        assert (out / "config.toml").read_text() == run.config.dumps()
        assert [row["step"] for row in read_metrics(out / "metrics.jsonl")] == [0, 2]


def test_a_reader_sees_a_whole_checkpoint_while_another_process_trains(tmp_path: Path) -> None:
    """The two runs take turns, with --overwrite; both have checkpoints of the same steps."""
    out, expected = tmp_path / "run", {}
    configs = [short("compiled", steps=4, eval_every=1), short("compiled-rotary", steps=4, eval_every=1, seed=1)]
    for config in configs:

        def seen(run: Any, _: Any) -> None:
            expected[run.config.dumps(), run.state.step] = weights_of(run)

        train_run(config, on_step=seen, on_evaluation=seen)
    train_run(configs[0], out=out)

    def write(announce: Any) -> None:
        with Calls(out).counted():
            for _ in range(TIMES):
                for config in reversed(configs):
                    train_run(config, out=out, overwrite=True)
        announce(1)

    writer, n = Child(write), 0
    try:
        while not os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            for last in (True, False):
                run = load_run(out, last=last)
                assert weights_of(run) == expected[run.config.dumps(), run.state.step]
                n += 1
    finally:
        assert writer.end() == (0, [1])
    assert n > TIMES


def test_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    whole = undisturbed("compiled")

    def hold(announce: Any) -> None:
        train_run(whole.config, out=tmp_path / "run", on_step=lambda run, step: step.number == 4 and time.sleep(60))

    with Calls(tmp_path).counted():
        child = Child(hold)
        while steps_of(tmp_path / "run" / "checkpoints")[-1:] != [3]:
            time.sleep(0.01)
        for again in ({"resume": tmp_path / "run"}, {"out": tmp_path / "run", "overwrite": True}):
            with pytest.raises(RunError, match=rf"run is being written by process {child.pid}; wait"):
                train_run(whole.config, **again)  # type: ignore[arg-type]
        os.kill(child.pid, signal.SIGKILL)
        child.end()
        assert result(train_run(resume=tmp_path / "run")) == whole.result


def command(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "npgpt", "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def announced(output: str) -> list[int]:
    return [int(step) for step in re.findall(r"^step +(\d+)/\d+  train", output, re.MULTILINE)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_instant_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    whole = undisturbed("compiled")
    (tmp_path / "config.toml").write_text(whole.config.dumps())
    started = time.monotonic()
    process = command("--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "whole"))
    assert process.communicate()[0] and process.returncode == 0
    seconds = time.monotonic() - started
    for i in range(SIGNALS):
        out = tmp_path / str(i)
        process = command("--config", str(tmp_path / "config.toml"), "--out", str(out))
        time.sleep(seconds * (0.3 + 0.7 * (i + 0.5) / SIGNALS))
        process.send_signal(number)
        output, error = process.communicate()
        if "text: " not in output:  # Python was starting, and nothing was done
            assert process.returncode != 0 and not out.exists()
        elif "next: npgpt sample" in output:  # all was done; Python itself was at its end
            assert process.returncode in (0, -number, 128 + number)
        else:
            assert process.returncode == 128 + number, error
            assert "Traceback" not in error and error.endswith(
                "stopped by " + ("Ctrl-C\n" if number == 2 else "SIGTERM\n")
            )
        steps = announced(output)
        if steps:
            run = load_run(out, last=True)
            assert run.state.step >= steps[-1] and weights_of(run) == whole.weights[run.state.step]
            assert set(steps) <= {row["step"] for row in read_metrics(out / "metrics.jsonl")}
            if "next: npgpt sample" not in output:
                assert f"step {run.state.step} of 20 is saved in {out}\ngo on: npgpt train --resume {out}\n" in output
        if steps_of(out / "checkpoints"):
            same(result(train_run(resume=out)), whole.result)


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare results. The checkpoint that a signal leaves between two evaluations may be among those that are kept."""
    assert {**found, "names": None} == {**expected, "names": None}


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """The second one comes while the first checkpoint after the first one is being written."""
    whole = undisturbed("compiled")
    script = """
import os, signal, sys
from npgpt.cli import main
import npgpt.runs.checkpoint as checkpoint
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
write, n = checkpoint.write_flushed, 0
def twice(path, data):
    global n
    n += 1
    if n > 10 and path.name == "model.safetensors":
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    write(path, data)
checkpoint.write_flushed = twice
sys.exit(main(sys.argv[1:]))
"""
    (tmp_path / "config.toml").write_text(whole.config.dumps())
    arguments = ["train", "--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 130 and "Traceback" not in done.stderr
    saved, announced_steps = load_run(tmp_path / "run", last=True).state.step, announced(done.stdout)
    assert announced_steps[-1] == saved and f"step {saved} of 20 is saved in {tmp_path / 'run'}" in done.stdout
    assert "second Ctrl-C ends at once" in done.stderr
    same(result(train_run(resume=tmp_path / "run")), whole.result)
