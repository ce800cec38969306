"""npgpt's promises, checked in a few seconds on this machine."""

import functools
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from npgpt.core import Cache
from npgpt.study.check import METHODS, check_case, make_case
from npgpt.study.reproducible import (
    MODELS,
    PLAIN_LIBRARIES,
    REFERENCE,
    REFERENCE_HASH,
    STEPS,
    hash_elsewhere,
    text,
    train,
    versions_here,
    weights_hash,
)

THREADS = (1, 2, 3)
LAYERS = ("Block", "CrossEntropy", "Embedding", "VocabularyHead")  # a block contains the other layers
ALLOWED = 1e-5  # relative difference between compiled layers, in float32, and the textbook's in float64
PATIENCE = 120  # seconds to wait for a child's hash


@dataclass(frozen=True)
class Promise:
    """A promise, whether it holds, and the result of its check."""

    name: str
    holds: bool
    seen: str


def gradients_are_right() -> tuple[bool, str]:
    checks = [check for name in LAYERS for check in check_case(make_case(name))]
    numbers = {method: [check.error for check in checks if check.method == method] for method in METHODS}
    errors = (f"{method} {max(of):.0e}" for method, of in numbers.items() if method != "Taylor")
    right = all(check.passed for check in checks)
    return right, f"{len(checks)} checks of {', '.join(LAYERS)}; largest errors: {', '.join(errors)}"


def compiled_equals_textbook() -> tuple[bool, str]:
    """Compare a GPT after three training steps with the same GPT in float64."""
    compiled = train(MODELS[0], 3)[0]
    textbook = compiled.astype(np.float64)
    ids = text()[: 4 * 12].reshape(4, 12)
    losses = []
    for model in (compiled, textbook):
        cache = Cache(training=True, seed=1)
        model.zero_grad()
        losses.append(float(model.loss(ids[:, :-1], ids[:, 1:], cache)))
        model.loss_backward(1.0, cache)
    differences = [abs(losses[0] - losses[1]) / losses[1]]
    pairs = zip(compiled.parameters().values(), textbook.parameters().values(), strict=True)
    differences += [float(np.linalg.norm(a.grad - b.grad) / np.linalg.norm(b.grad)) for a, b in pairs]
    largest = max(differences, key=lambda difference: difference if difference == difference else np.inf)
    return (
        largest <= ALLOWED,
        f"loss and {len(differences) - 1} gradients of a small GPT, float32 against float64: largest relative "
        f"difference {largest:.0e}, allowed {ALLOWED:.0e}",
    )


@functools.cache
def hash_here() -> str:
    """Return ``weights_hash`` of this process, computed once."""
    return weights_hash()


def hash_or_none() -> str | None:
    """Return the hash to compare with another machine's; None where it cannot be computed."""
    try:
        return hash_here()
    except Exception:  # the promises report the reason
        return None


def _same(found: dict[str, str], of: str) -> tuple[bool, str]:
    wrong = [f"{name}: {code[:16]}" for name, code in found.items() if code != hash_here()]
    return not wrong, f"{of}: {', '.join(wrong)}, not {hash_here()[:16]}" if wrong else of


def same_for_any_threads() -> tuple[bool, str]:
    found = {f"with {n}": weights_hash(STEPS, n) for n in THREADS}
    return _same(found, f"weights and moments of {len(MODELS)} small GPTs with dropout after {STEPS} steps")


def same_in_a_fork() -> tuple[bool, str]:
    if not hasattr(os, "fork"):
        return True, "this system has no fork"
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(weights_hash(STEPS, 2)), daemon=True)
    hash_here()  # this starts threads, which the child does not inherit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about a fork while threads run
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # after Ctrl-C the parent ends the child
        child.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sender.close()
    try:
        found = receiver.recv() if receiver.poll(PATIENCE) else f"no hash in {PATIENCE} s"
    except EOFError:
        found = "it died"
    child.kill()
    child.join()
    return _same({"the child": found}, "the child starts its own threads")


def same_beside_other_libraries() -> tuple[bool, str]:
    found = hash_elsewhere(STEPS, 2, PLAIN_LIBRARIES)[1]
    return _same({"there": found}, "in a process where NumPy, OpenBLAS and libc use an older CPU's instructions")


def same_as_the_reference() -> tuple[bool, str]:
    """Compare with the hash in the source code, which another machine computed."""
    here = versions_here()
    other = [f"{name} {here[name]}, not {version}" for name, version in REFERENCE.items() if here[name] != version]
    if hash_here() == REFERENCE_HASH:
        return True, f"equal to the hash in the source code: {REFERENCE_HASH[:16]}"
    if other:
        return True, f"not comparable: {', '.join(other)}"
    return _same({"there": REFERENCE_HASH}, "the hash in the source code")


CHECKS = {
    "gradients are right": gradients_are_right,
    "compiled equals textbook": compiled_equals_textbook,
    f"same bits for {', '.join(map(str, THREADS))} threads": same_for_any_threads,
    "same bits in a forked child": same_in_a_fork,
    "same bits beside other libraries": same_beside_other_libraries,
    "same bits as the reference": same_as_the_reference,
}


def check_promises() -> Iterator[Promise]:
    """Yield the result of each of ``CHECKS``; a check that raises an exception does not hold."""
    for name, check in CHECKS.items():
        try:
            holds, seen = check()
        except Exception as error:  # the next checks still run
            holds, seen = False, f"cannot be checked: {type(error).__name__}: {error}"
        yield Promise(name, holds, seen)
