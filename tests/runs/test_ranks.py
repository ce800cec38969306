"""Several processes train one model by MPI: the same bits as one, and one end for all of them."""

import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npgpt.config import TrainConfig
from npgpt.core.param import CHUNK
from npgpt.errors import ConfigError
from npgpt.machine.pool import get_num_threads
from npgpt.runs import load_run
from npgpt.runs.ranks import Ranks, _share_cores, ranks_of_mpiexec
from npgpt.support.variables import MPI_SIZES

NPGPT = [sys.executable, "-m", "npgpt", "train"]
MPIEXEC = str(Path(sys.executable).with_name("mpiexec"))
# 15 examples make batches of 7, 7 and 1: the last one has fewer examples than there are micro-batches, and ranks.
SETTINGS = shlex.split(
    "--text text.txt --tokenizer char --steps 8 --batch-size 7 --micro-batches 5 --stride 8 --eval-every 4 --n-layer 1 "
    "--n-head 2 --n-embd 48 --context-length 12 --dropout 0.1 --warmup-steps 2 --grad-clip 0.1"
)
TEXT = "The cat sat on the mat, and the dog ran after a frog.\n" * 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT[: 12 + 14 * 8 + 20])
    return tmp_path


def start(folder: Path, ranks: int, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    command = [*([MPIEXEC, "-n", str(ranks)] if ranks > 1 else []), *NPGPT, *arguments]
    return run(folder, command, **variables)


def run(folder: Path, command: list[str], **variables: str) -> subprocess.Popen[str]:
    variables = {"NPGPT_NUM_THREADS": "1"} | variables
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=os.environ | variables, text=True, **pipes)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, said = process.communicate(timeout=240)
    return process.returncode, out, "\n".join(line for line in said.splitlines() if "compiling kernels" not in line)


def trained(folder: Path, ranks: int, out: str, *arguments: str, step: int = 8) -> list[str]:
    """Train, and return the SHA-256 of weights and moments."""
    code, _, said = ended(start(folder, ranks, *SETTINGS, "--out", out, *arguments))
    assert (code, said) == (0, "")
    return bits(folder / out, step)


def bits(out: Path, step: int = 8) -> list[str]:
    names = ("model.safetensors", "optimizer.safetensors")
    return [hashlib.sha256((out / "checkpoints" / str(step) / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.mpi
@pytest.mark.parametrize("layers", ["compiled", "textbook"])
def test_three_ranks_have_the_bits_of_one(folder: Path, layers: str) -> None:
    assert trained(folder, 3, "three", "--layers", layers) == trained(folder, 1, "one", "--layers", layers)
    rows = [(folder / out / "metrics.jsonl").read_text().splitlines() for out in ("one", "three")]
    without_speed = [[row.split('"tokens_per_s"')[0] for row in of_run] for of_run in rows]
    assert without_speed[0] == without_speed[1]


@pytest.mark.mpi
@pytest.mark.slow
def test_two_three_and_four_ranks_have_the_bits_of_one(folder: Path) -> None:
    more = "--positions", "rotary", "--n-layer", "3", "--no-tie-weights"
    found = [trained(folder, ranks, f"of-{ranks}", *more) for ranks in (1, 2, 3, 4)]
    assert found == found[:1] * 4


@pytest.mark.mpi
@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_ranks_to_the_same_bits(folder: Path) -> None:
    right = trained(folder, 1, "one")
    for before, after in ((3, 2), (1, 4)):
        assert trained(folder, before, "stopped", "--steps", "8", "--save-at", "3", "--overwrite") == right
        for checkpoint in (folder / "stopped" / "checkpoints").iterdir():
            if checkpoint.name != "3":
                shutil.rmtree(checkpoint)
        assert ended(start(folder, after, "--resume", "stopped"))[::2] == (0, "")
        assert bits(folder / "stopped") == right


@pytest.mark.mpi
@pytest.mark.slow
def test_the_fast_sum_is_that_of_one_up_to_rounding(folder: Path) -> None:
    for ranks in (1, 3):
        trained(folder, ranks, f"of-{ranks}", "--reduce", "fast")
    one, three = (load_run(folder / f"of-{ranks}").model.parameters() for ranks in (1, 3))
    assert all(np.allclose(one[name].value, three[name].value, atol=2e-4) for name in one)
    assert bits(folder / "of-1") == trained(folder, 1, "exact")


REFUSED = {
    "fewer micro-batches than ranks": (
        ["--micro-batches", "2"], [], "3 ranks need at least 3 micro-batches, but micro_batches is 2; give --micro-bat"
    ),
    "a text that is missing on one": (["--text", "../text.txt"], [], "rank 1: ../text.txt: No such file"),
    "another text": (["--text", "../other.txt"], [], "rank 1: the text "),
    "another flag": ([], ["--steps", "9"], "rank 1 has another argument than rank 0: steps is 9, not 8; it must be"),
    "an unknown flag on one": ([], ["--stepps", "9"], "rank 1: unknown argument '--stepps'; did you mean --steps?"),
    "an unknown flag on all": (["--stepps", "9"], [], "unknown argument '--stepps'; did you mean --steps?"),
    "a number that is none": (["--steps", "no"], [], "argument --steps: invalid int value: 'no'"),
    "a run to go on with, and another folder": (["--resume", "no"], [], "--resume goes on in the folder of its run"),
    "divergence": (["--learning-rate", "1e30", "--grad-clip", "1e30", "--warmup-steps", "0"], [], "step 2: training "),
}  # fmt: skip


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("why", REFUSED)
def test_all_ranks_end_with_one_message(folder: Path, why: str) -> None:
    on_all, on_one, message = REFUSED[why]
    inside, other = folder / "a" / "inside", folder / "b" / "inside"
    for place in (inside, other):
        place.mkdir(parents=True)
        (place / "text.txt").write_bytes((folder / "text.txt").read_bytes())
    (folder / "a" / "text.txt").write_text(TEXT)
    for name in ("a", "b"):
        (folder / name / "other.txt").write_text(TEXT + name)
    command = [*NPGPT, *SETTINGS, "--out", str(folder / "run"), *on_all]
    ranks = [MPIEXEC, "-n", "1", "-wdir", str(inside), *command]
    ranks += [":", "-n", "1", "-wdir", str(other), *command, *on_one, ":", "-n", "1", "-wdir", str(inside), *command]
    code, _, said = ended(run(folder, ranks))
    assert code == (4 if why == "divergence" else 2)
    assert said.startswith(f"npgpt: error: {message}"), said
    assert "\n" not in said


@pytest.mark.mpi
def test_a_rank_that_is_told_to_stop_stops_all_and_the_run_goes_on(folder: Path) -> None:
    process = start(folder, 3, *SETTINGS, "--steps", "100000", "--eval-every", "100000", "--out", "run")
    wait_until((folder / "run" / "checkpoints" / "0").exists, "no checkpoint appears")
    os.kill(ranks_below(process.pid)[-1], signal.SIGTERM)
    code, out, said = ended(process)
    assert (code, said.strip()) == (143, "stopped by SIGTERM")
    assert "go on: npgpt train --resume run" in out
    step = int(out.rpartition("step ")[2].split()[0])
    assert load_run(folder / "run", last=True).state.step == step


@pytest.mark.mpi
@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on_to_the_same_bits(folder: Path) -> None:
    settings = ["--steps", "60", "--eval-every", "3", "--overwrite"]
    started = time.monotonic()
    right = trained(folder, 3, "whole", *settings, step=60)
    seconds = time.monotonic() - started
    drawn, kills, times = random.Random(0), 0, 20 if os.environ.get("NPGPT_PROFILE") == "deep" else 5
    for _ in range(times):
        process = start(folder, 3, *SETTINGS, *settings, "--out", "run")
        while len(found := ranks_below(process.pid)) < 3 and process.poll() is None:
            time.sleep(0.05)
        time.sleep(drawn.uniform(0, 0.9) * seconds)
        if process.poll() is None:  # else the run has ended before this instant
            os.kill(drawn.choice(found), signal.SIGKILL)
            kills += 1
        ended(process)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), "processes are left over")
        go_on = (
            ["--resume", "run"] if (folder / "run" / "checkpoints").exists() else [*SETTINGS, *settings, "--out", "run"]
        )
        assert ended(start(folder, drawn.choice([1, 2, 4]), *go_on))[::2] == (0, "")
        assert bits(folder / "run", 60) == right
        shutil.rmtree(folder / "run")
    assert kills > times / 2


# Rank 0 is late at the first meeting, as with slow imports on one machine.
LATE = """
import sys, time, npgpt.cli as cli
make, cli.make_parser = cli.make_parser, lambda: (time.sleep(4), open("late", "w").close(), make())[2]
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_all", [True, False])
def test_a_signal_at_the_first_meeting_ends_all(folder: Path, number: int, to_all: bool) -> None:
    train = ["train", *SETTINGS]
    command = [MPIEXEC, "-n", "1", sys.executable, "-c", LATE, *train, ":", "-n", "1", sys.executable, "-m", "npgpt"]
    process = run(folder, [*command, *train])
    time.sleep(3)
    os.kill(process.pid if to_all else ranks_below(process.pid)[1], number)
    code, _, said = ended(process)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "stopped by" in said and "Traceback" not in said


API = """
import sys
from npgpt.config import GPTConfig, TrainConfig, RunConfig, DataConfig
from npgpt.runs import train_run
from npgpt.runs.ranks import ranks_of_mpiexec
ranks, way = ranks_of_mpiexec(), sys.argv[1]
model = GPTConfig(vocab_size=30, context_length=8, n_layer=1, n_head=2, n_embd=16)
train = TrainConfig(steps=4, batch_size=4, micro_batches=3, eval_every=2)
config = RunConfig(DataConfig(tokenizer="char"), model, train)
def step(run, step):
    if way == "fails" and step.number == 2:
        raise RuntimeError("of rank 0")
made = train_run(config, ["one text and another " * 9], out="api" if way == "out" else None, ranks=ranks,
                 on_step=None if ranks.rank else step)
if ranks.rank == 0:
    made.save("saved")
else:
    assert made.optimizer is None
"""


@pytest.mark.mpi
@pytest.mark.slow
def test_a_python_program_trains_on_several_processes(folder: Path) -> None:
    mpiexec = [MPIEXEC, "-n", "3", sys.executable, "-c", API]
    for way in ("none", "out"):
        assert ended(run(folder, [*mpiexec, way]))[::2] == (0, "")
        saved = bits(folder / "saved", 4)
        assert way == "none" or saved == bits(folder / "api", 4)
        shutil.rmtree(folder / "saved")
    code, _, said = ended(run(folder, [*mpiexec, "fails"]))
    assert code == 1 and "RuntimeError: of rank 0" in said


def wait_until(true: Callable[[], bool], otherwise: str) -> None:
    for _ in range(2400):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(otherwise)


def ranks_below(pid: int) -> list[int]:
    """Return the processes of npgpt that a process has started, in the order of their ranks."""
    found = {}
    for each in descendants(pid):
        try:
            variables = Path(f"/proc/{each}/environ").read_text().split("\0")
            command = Path(f"/proc/{each}/cmdline").read_text()
        except OSError:
            continue
        if command.startswith(sys.executable):
            found[next(int(line.removeprefix("PMI_RANK=")) for line in variables if line.startswith("PMI_RANK="))] = (
                each
            )
    return [found[rank] for rank in sorted(found)]


def descendants(pid: int) -> Iterator[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    for child, parent in parents.items():
        while parent in parents and parent != pid:
            parent = parents[parent]
        if parent == pid:
            yield child


class Counted:
    """What ``Ranks`` asks of a communicator when it is made."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def Get_rank(self) -> int:  # noqa: N802
        return self.rank

    def Get_size(self) -> int:  # noqa: N802
        return self.size


@given(n=st.one_of(st.integers(0, 10 * CHUNK), st.integers(0, 10**9)), size=st.integers(1, 70))
def test_blocks_hold_whole_chunks_and_all_numbers(n: int, size: int) -> None:
    sizes, starts = Ranks(Counted(0, size)).blocks(n)
    assert len(sizes) == len(starts) == size
    assert starts == [sum(sizes[:rank]) for rank in range(size)]
    assert sum(sizes) == n
    assert all(start % CHUNK == 0 or start == n for start in starts)
    assert max(sizes) - min(sizes) <= 2 * CHUNK


class Machine(Counted):
    """A communicator of which each call gives the same values of all ranks."""

    def __init__(self, of_all: list[Any]) -> None:
        super().__init__(0, len(of_all))
        self.of_all = of_all

    def allgather(self, mine: Any) -> list[Any]:
        return self.of_all


def test_another_version_is_refused_by_name() -> None:
    ranks = Ranks(Machine([{"npgpt": "1", "numpy": "2.4.6"}, {"npgpt": "1", "numpy": "2.0.0"}]))
    message = "rank 1 has another version than rank 0: numpy is '2.0.0', not '2.4.6'; it must be the same on all ranks"
    with pytest.raises(ConfigError, match=message):
        ranks.same("version", {})


def test_ranks_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.delenv("NPGPT_NUM_THREADS", raising=False)
    mine = {0, 1, 2, 3}
    for of_all, threads in (
        ([mine] * 2, 2),
        ([mine] * 3, 1),
        ([mine] * 9, 1),
        ([mine, {4, 5}], 4),
        ([mine, {0, 1}], 3),
    ):
        _share_cores(Machine(of_all))
        assert get_num_threads() == threads
    monkeypatch.setenv("NPGPT_NUM_THREADS", "2")
    _share_cores(Machine([mine]))
    assert get_num_threads() == 3


def test_too_few_micro_batches_are_refused_with_the_number_to_set() -> None:
    ranks = Ranks(Counted(0, 4))
    for config, resumes, advice in (
        (TrainConfig(batch_size=8, micro_batches=3), False, "give --micro-batches 4, or a multiple of 4"),
        (TrainConfig(batch_size=3, micro_batches=3), False, "--micro-batches 4 and --batch-size 4 or more"),
        (TrainConfig(batch_size=8, micro_batches=3), True, "so start at most 3 ranks"),
        (TrainConfig(batch_size=8, micro_batches=1), True, "so start it without mpiexec"),
    ):
        with pytest.raises(ConfigError, match=advice):
            ranks.check_parts(config, resumes)
    ranks.check_parts(TrainConfig(batch_size=8, micro_batches=4), False)


@pytest.mark.mpi
@pytest.mark.parametrize("name", MPI_SIZES)
def test_the_mpiexec_of_another_mpi_is_refused_by_name(folder: Path, name: str) -> None:
    code, _, said = ended(start(folder, 1, *SETTINGS, **{name: "4", "PYTHONWARNINGS": "ignore"}))
    assert code == 2
    assert "npgpt: error: mpiexec has started 4 processes, but each sees 1: mpi4py here is made for" in said
    assert "and mpiexec is that of another MPI; start with" in said


def test_without_mpi4py_mpiexec_is_refused(folder: Path) -> None:
    program = "import sys; sys.modules['mpi4py'] = None; from npgpt.cli import main; sys.exit(main(['train']))"
    code, _, said = ended(run(folder, [sys.executable, "-c", program], PMI_SIZE="2"))
    assert (code, said) == (
        2,
        "npgpt: error: mpiexec has started 2 processes, and they find each other by mpi4py, which cannot be imported "
        "(import of mpi4py halted; None in sys.modules); pip install 'npgpt[mpi]', or start npgpt without mpiexec",
    )


def test_one_process_needs_no_mpi() -> None:
    assert ranks_of_mpiexec().size == 1
