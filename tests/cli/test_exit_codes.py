"""Each command ends with the right exit code, also after signals, closed pipes and full disks."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from npgpt.cli import check, exercise, main
from npgpt.cli.exit_codes import MEANINGS, ExitCode
from npgpt.study.check import Check, Report
from npgpt.study.check.verdict import UNDECIDED, WRONG, Verdict

TEXT = "The cat sat on the mat. The dog sat on the log. The frog sat on the rock.\n" * 40
TINY = """--text=text.txt --n-layer=1 --n-head=1 --n-embd=8 --context-length=8 --vocab-size=300
          --steps=4 --eval-every=2 --batch-size=2""".split()  # noqa: SIM905


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a run, a damaged run, and files for exercises."""
    folder = tmp_path_factory.mktemp("exit_codes")
    before = Path.cwd()
    os.chdir(folder)
    try:
        Path("text.txt").write_text(TEXT)
        Path("binary").write_bytes(b"\xff")
        assert main(["train", *TINY, "--out=run"]) == 0
        Path("damaged").mkdir()
        Path("damaged/run.json").write_text("{")
        assert main(["exercise", "start", "linear", "--out=wrong.py"]) == 0
        Path("exits.py").write_text("# npgpt exercise: linear\nraise SystemExit(7)\n")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize(
    ("code", "command", "says"),
    [
        (ExitCode.FINE, "", ""),
        (ExitCode.FINE, "tokenize encode hello --vocab run", ""),
        (ExitCode.FINE, "sample run --max-tokens 2", ""),
        (ExitCode.FINE, "explain hello --plain --run run", ""),
        (ExitCode.FINE, "vectors similar e --run run", ""),
        (ExitCode.FINE, "check ReLU", ""),
        (ExitCode.FINE, "exercise list", ""),
        (ExitCode.WRONG, "exercise check wrong.py", ""),
        (ExitCode.USAGE, "nope", "invalid choice: 'nope'"),
        (ExitCode.USAGE, "tokenize train text.txt --out=", "--out is empty"),
        pytest.param(
            ExitCode.USAGE,
            "train --config /dev/zero",
            "bytes are too many",
            marks=pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero"),
        ),
        (ExitCode.USAGE, "doctor extra", "known: --clear-cache, --help, --json"),
        (ExitCode.USAGE, "--nope", "unknown argument '--nope'; known: --help, --version"),
        (ExitCode.USAGE, "sample run --rum run", "unknown argument '--rum'; did you mean --prompt"),
        (ExitCode.USAGE, "check ReLU --generated 3", "--generated draws further mistakes; it needs --mutants"),
        (ExitCode.USAGE, "explain hello --picture x.png", "it needs --over-time"),
        (ExitCode.USAGE, "explain hello --json --plain", "--json and --plain are different views"),
        (ExitCode.USAGE, "explain hello --ledger q[1-2]", "'q[1-2]' is not a cell of a tensor"),
        (ExitCode.USAGE, "explain hello -o binary", "binary exists and is no page of npgpt explain"),
        (ExitCode.USAGE, "tokenize", "arguments are required: ACTION"),
        (ExitCode.USAGE, "vectors", "an action or --run DIR is missing"),
        (ExitCode.USAGE, "train --steps many", "invalid int value: 'many'"),
        (ExitCode.USAGE, "train --n-head 3", "n_embd 128 cannot be divided"),
        (ExitCode.USAGE, "train --text nope.txt", "nope.txt: No such file"),
        (ExitCode.USAGE, "train --text binary", "binary is not UTF-8 text"),
        (ExitCode.USAGE, "train --text run", "run is a run folder"),
        (ExitCode.USAGE, "train --text text.txt --out run", "run already holds a run"),
        (ExitCode.USAGE, "train --text text.txt --n-head 1 --n-embd 2000000000", "this process can get"),
        (ExitCode.USAGE, "sample nope", "nope is not a folder"),
        (ExitCode.USAGE, "sample damaged", "damaged/run.json is damaged"),
        (ExitCode.USAGE, "explain hello --run damaged", "damaged/run.json is damaged"),
        (ExitCode.USAGE, "explain hello -o nope/page.html", "nope/page.html: No such file"),
        (ExitCode.USAGE, "check Liner", "no layer 'Liner'"),
        (ExitCode.USAGE, "check --mutants --generated -1", "--generated must be at least 0"),
        (ExitCode.USAGE, "train --record-every -1", "--record-every must be at least 0"),
        (ExitCode.USAGE, "exercise check nope.py", "nope.py is not a file"),
        (ExitCode.USAGE, "exercise check exits.py", "exits.py ends Python"),
        (ExitCode.USAGE, "exercise start nope", "no exercise 'nope'"),
        (ExitCode.USAGE, "vectors similar e --vectors binary", "binary, line 1"),
        (ExitCode.USAGE, "vectors similar e --run run --n 0", "--n must be at least 1"),
        (ExitCode.USAGE, "vectors search run hello", "run is not a file"),
        (
            ExitCode.DIVERGED,
            "train --text text.txt --learning-rate 1e30 --eval-every 1 --steps 9 --n-layer 1",
            "training diverged",
        ),
        (
            ExitCode.DIVERGED,
            "vectors train text.txt --out vectors.npz --learning-rate 1e30",
            "epoch 1: training diverged",
        ),
    ],
)
def test_every_command_ends_with_its_code(
    code: int, command: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert ("npgpt: error: " in error) == (code in (ExitCode.USAGE, ExitCode.DIVERGED))
    assert says in error  # a typing mistake in the command would end with the same code


def test_check_is_undecided_about_a_gradient_that_no_method_could_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unchecked, bad = Report("Odd"), Report("Odd")
    unchecked.append(Check("Odd", "input x", (1,), "tape", 0.0, True, skipped="no taped numbers"))
    unchecked.verdicts["input x"] = Verdict(UNDECIDED, "no witness could tell")
    bad.append(Check("Odd", "input y", (1,), "tape", 1.0, False))
    bad.verdicts["input y"] = Verdict(WRONG, by=("tape", "differences"))
    monkeypatch.setattr(check, "check_cases", lambda names: iter([unchecked]))
    assert main(["check", "ReLU"]) == ExitCode.UNDECIDED
    assert "1 layer, 1 arrays: UNDECIDED: Odd" in capsys.readouterr().out
    monkeypatch.setattr(check, "check_cases", lambda names: iter([unchecked, bad]))
    assert main(["check", "ReLU", "--json"]) == ExitCode.WRONG


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_ctrl_c_and_a_fault_of_npgpt(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(names: object) -> None:
        raise error

    monkeypatch.setattr(check, "check_cases", fail)
    if error is KeyboardInterrupt:
        assert main(["check", "ReLU"]) == ExitCode.CTRL_C
    else:
        with pytest.raises(error):  # a traceback, and 1 by Python
            main(["check", "ReLU"])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def environment() -> dict[str, str]:
    """Return the variables of a process that buffers its output, as most do, and finds npgpt from any folder."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return variables | {"PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}


def start(*arguments: str, **settings: Any) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    settings = {"env": environment(), "encoding": "utf-8"} | pipes | settings
    if os.name != "nt":  # a shell lets its background processes, and so their children, ignore Ctrl-C
        settings["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-m", "npgpt", *arguments], **settings)


def start_shell(script: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(["sh", "-c", script], env=environment(), encoding="utf-8", stdout=pipe, stderr=pipe)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, ExitCode.CTRL_C), (signal.SIGTERM, ExitCode.SIGTERM)])
def test_a_signal_stops_training_and_leaves_whole_files(number: int, code: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with start("train", *TINY, "--steps=100000", "--eval-every=5", f"--out={out}") as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (out / "checkpoints").exists():
            time.sleep(0.02)
        process.send_signal(number)
        said, error = process.communicate(timeout=60)
    assert process.returncode == code, said + error
    assert "Traceback" not in error and "stopped by" in error
    assert f"of 100000 is saved in {out}\ngo on: npgpt train --resume {out}\n" in said
    assert not [path.name for path in out.rglob("*") if path.name.startswith(".")]
    assert main(["sample", str(out), "--max-tokens", "2"]) == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "train --help", "tokenize encode hello --vocab run"])
def test_a_reader_that_closes_the_pipe(command: str, unbuffered: str) -> None:
    with start(*command.split(), env=environment() | {"PYTHONUNBUFFERED": unbuffered}) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(60) == ExitCode.CLOSED_PIPE
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk() -> None:
    with open("/dev/full", "w") as full:
        for command in ("--help", "tokenize encode hello --vocab run"):
            with start(*command.split(), stdout=full) as process:
                assert "error: No space left on device" in process.communicate()[1]
            assert process.returncode == ExitCode.USAGE
        with start("nope", stderr=full) as process:  # the message is lost, the code is not
            process.communicate()
        assert process.returncode == ExitCode.USAGE


@pytest.mark.skipif(os.name == "nt", reason="needs sh")
@pytest.mark.parametrize(("closed", "shown"), [("<&-", True), ("2>&-", True), (">&-", False), ("<&- >&- 2>&-", False)])
def test_closed_streams_are_no_fault_of_the_program(closed: str, shown: bool) -> None:
    with start("tokenize", "encode", "hello", "--vocab", "run") as process:
        ids = process.communicate()[0]
    assert process.returncode == 0 and ids.split()
    with start_shell(f"{sys.executable} -m npgpt tokenize decode {ids.strip()} --vocab run {closed}") as process:
        said, error = process.communicate()
    assert (process.returncode, said, error) == (0, "hello" if shown else "", "")


def test_the_table_of_codes_is_complete_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(MEANINGS) == list(ExitCode)
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 130, 141, 143]
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(f"  {code.value:<4} {meaning}" in lines for code, meaning in MEANINGS.items())


def test_a_promise_that_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from npgpt.study import promises

    monkeypatch.setattr(promises, "CHECKS", {"one": lambda: (False, "no")})
    monkeypatch.setattr("npgpt.cli.doctor.hash_or_none", lambda: None)
    assert main(["doctor", "--json"]) == ExitCode.WRONG
    assert json.loads(capsys.readouterr().out)["holds"] is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupt_that_a_callback_loses_comes_again(
    number: signal.Signals, fails: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ctypes drops an exception in a callback; LLVM's compiler has such callbacks."""

    def stopped(_: object) -> int:
        ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(number) or time.sleep(0))()
        if fails:
            raise RuntimeError("no compiled object yet")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.01)
        return 0

    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    monkeypatch.setattr(exercise, "run_list", stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["exercise", "list"]) == (130 if number == signal.SIGINT else 143)
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.startswith("\nstopped by ")


@pytest.mark.parametrize(("signals", "ended"), [(1, True), (2, False)])
def test_a_signal_waits_for_the_compiler_but_a_second_does_not(
    signals: int, ended: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception in a constructor of llvmlite leaves half an object, whose destructor fails."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    module: dict[str, Any] = {"__name__": "llvmlite.binding.ffi", "signal": signal, "done": []}
    exec(f"def construct():\n    for _ in range({signals}): signal.raise_signal(15)\n    done.append(1)", module)

    def compiled(_: object) -> None:
        module["construct"]()
        time.sleep(10)

    monkeypatch.setattr(exercise, "run_list", compiled)
    assert main(["exercise", "list"]) == ExitCode.SIGTERM
    assert capsys.readouterr().err == "\nstopped by SIGTERM\n"
    assert bool(module["done"]) == ended
