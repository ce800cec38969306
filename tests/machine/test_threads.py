"""Python threads beside each other: trainings while the number of threads changes, and forks while kernels compile."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from npgpt.build import make_gpt
from npgpt.config import GPTConfig, TrainConfig
from npgpt.machine.pool import get_num_threads, set_num_threads
from npgpt.train import training_steps

# The products are large enough for several threads, and the context takes several tiles of attention.
CONFIGS = [
    GPTConfig(vocab_size=31, context_length=T, n_layer=1, n_head=2, n_embd=C, dropout=0.1)
    for T, C in ((40, 96), (100, 64), (17, 132), (64, 80))
]
IDS = np.random.default_rng(0).integers(0, 31, 600)
CHANGES = 500


def train(config: GPTConfig) -> bytes:
    model = make_gpt(config)
    list(training_steps(model, IDS, TrainConfig(steps=4, batch_size=4, learning_rate=0.01)))
    return model.flat.values.tobytes()


@pytest.mark.slow
def test_the_number_of_threads_may_change_beside_trainings() -> None:
    expected, before = [train(config) for config in CONFIGS], get_num_threads()
    changing, results = threading.Event(), [[train(config)] for config in CONFIGS]
    changing.set()

    def repeat(number: int) -> None:
        while changing.is_set():
            results[number].append(train(CONFIGS[number]))

    trainings = [threading.Thread(target=repeat, args=(number,)) for number in range(len(CONFIGS))]
    for training in trainings:
        training.start()
    for change in range(CHANGES):
        set_num_threads(1 + change * 7 % 5)
    changing.clear()
    for training in trainings:
        training.join(120)
        assert not training.is_alive()
    set_num_threads(before)
    assert [set(found) for found in results] == [{right} for right in expected]
    assert min(map(len, results)) > 1, "the changes ended before a training did"


# A thread compiles kernels, without a folder that has them, while the main thread forks.
FORKS = """
import os, sys, threading, time
from npgpt.machine import code_files
code_files.cache_folder = lambda: None
import numpy as np

def compute():
    from npgpt.build import make_gpt
    from npgpt.core import Cache
    from npgpt.config import GPTConfig
    model = make_gpt(GPTConfig(vocab_size=7, context_length=4, n_layer=1, n_head=1, n_embd=4))
    return float(model.loss(np.array([[1, 2, 3]]), np.array([[2, 3, 4]]), Cache()))

result = []
compiling = threading.Thread(target=lambda: result.append(compute()))
compiling.start()
children = []
for _ in range(int(sys.argv[1])):
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        import npgpt.kernels.elementwise as elementwise
        from npgpt.machine.pool import pool
        x = np.arange(5, dtype=np.float32)
        elementwise.scale(pool(), x, 0.5, x)
        os._exit(0 if x[4] == 2 else 1)
    children.append(child)
compiling.join()
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(codes, np.isfinite(result[0]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_another_thread_compiles_computes() -> None:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-W", "ignore", "-c", FORKS, "4"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=300)
    assert done.stdout == f"{[0] * 4} True\n", done.stderr


IMPORTS = """
import os, sys, threading, time
import npgpt
started = threading.Event()
def front_door():
    started.set()
    npgpt.gradcheck
threading.Thread(target=front_door).start()
started.wait()
children = []
for _ in range(8):
    time.sleep(0.03)
    child = os.fork()
    if child == 0:
        npgpt.gradcheck
        from npgpt.study.reproducible import train
        os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_another_thread_imports_npgpt_can_import_it() -> None:
    command = [sys.executable, "-W", "ignore", "-c", IMPORTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{[0] * 8}\n", done.stderr


def test_a_module_that_forks_during_its_import_does_not_wait_for_itself(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
class Forks:
    def find_spec(self, name, path=None, target=None):
        if name == "npgpt.model":
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
sys.meta_path.insert(0, Forks())
import npgpt.runs
print("done")
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout == "done\n"
