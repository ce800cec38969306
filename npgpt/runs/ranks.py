# M micro-batches, P ranks, n parameters
"""Training by several processes, on one machine or on several, that exchange numbers by MPI (``mpiexec -n 4 ...``).

Each process is a *rank*: 0, 1, ... P − 1. All have the whole model. They share the work of a step, and the optimizer:

    1. the M micro-batches of the batch are dealt in turn: round r gives number rP + k to rank k
    2. each rank computes the gradient of its micro-batch, g_m, from zero, in a vector (n,)
    3. the vector is cut into P blocks; rank k owns block k, and gets this block of every g_m of the round
    4. the owner adds them in the order of m. After the last round it has its block of g_0 + g_1 + ... + g_(M−1)
    5. the squares are summed by ``CHUNK``; every rank gets all sums, and adds them in their order: the norm
    6. the owner takes AdamW's step for its block, whose moments it alone has; every rank gets the new values

Rounded sums depend on their order, and no order here depends on P. So 1, 2, 3 and 4 ranks have the same bits as
``add_in_order`` on one. A rank sends, in each step, (M/P)·(1 − 1/P)·n numbers in 3. and (1 − 1/P)·n in 6. With
``reduce = "fast"`` each rank adds its own gradients first, and one sum over the ranks (a reduce-scatter) takes the
place of 3. and 4.: (1 − 1/P)·n numbers, but sums in an order that depends on P and on MPI.

Rank 0 reads and writes the run folder, evaluates and speaks. What it finds there, or the error, is sent to all
(``first``). So all ranks end with the same error, and rank 0 prints it. An error of one rank alone ends all of them.

Source    Rajbhandari et al. 2019, arXiv:1910.02054 (moments by their owners)
"""

import copy
import dataclasses
import functools
import operator
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from npgpt.build import make_gpt, why_not_compiled
from npgpt.config import RunConfig, TrainConfig
from npgpt.core import Cache
from npgpt.core.param import CHUNK, aligned_empty
from npgpt.errors import ConfigError, DataError, NpgptError, TrainingError, quote
from npgpt.model import GPT
from npgpt.optim import AdamW, norm
from npgpt.runs.checkpoint import State, versions
from npgpt.runs.resume import TrainingTexts
from npgpt.runs.run import Run
from npgpt.support.variables import size_of_mpiexec
from npgpt.train import add_in_order, optimizer_of

Texts = Callable[[RunConfig, State], TrainingTexts]


class Ranks:
    """The processes of one run; without ``comm`` there is one, which does everything itself.

    Attributes
        met: whether this rank has come to the first ``together``, where all get the error of one.
        agreed: the error that all ranks have raised.
        over: whether training has ended on all ranks.
        reduce: "exact" or "fast".
        settles: whether the command line ends all ranks after an error of one.
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm, self.rank, self.size = comm, comm.Get_rank() if comm else 0, comm.Get_size() if comm else 1
        self.met = self.over = self.settles = False
        self.agreed: BaseException | None = None
        self.reduce = "exact"

    def first(self, work: Callable[[], Any]) -> Any:
        """Do work on rank 0. Every rank gets the result, or the error. The others sleep meanwhile."""
        if not self.comm:
            return work()
        made, error = _tried(work) if self.rank == 0 else (None, None)
        self._wait()
        made, error = self.comm.bcast((made, error))
        if error is not None:
            self._fail(error)
        return made

    def together(self, work: Callable[[], Any]) -> Any:
        """Do work on every rank. If it fails on some, every rank gets the error of the first of them."""
        if not self.comm:
            return work()
        made, error = _tried(work)
        self.met = True  # before the others come: who leaves now leaves alone
        self._wait()
        errors = self.comm.allgather(error)
        failed = [rank for rank in range(self.size) if errors[rank] is not None]
        if failed:
            first = errors[failed[0]]
            self._fail(of_rank(first, failed[0]) if failed[0] else first)
        return made

    def _wait(self) -> None:
        """Wait for all ranks. MPI's own waiting takes a whole core, and lets no signal through."""
        arrived = self.comm.Ibarrier()
        while not arrived.Test():
            time.sleep(0.001)

    def left(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """End all processes if ``train_run`` is left with an error of this rank alone; the others would wait for it.

        The command line does this itself (``settles``), after its message.
        """
        alone = error is not None and error is not self.agreed and not isinstance(error, TrainingError)
        if self.comm and alone and not self.settles:
            traceback.print_exception(error)
            sys.stderr.flush()
            self.comm.Abort(1)

    def _fail(self, error: BaseException) -> NoReturn:
        self.agreed = error
        raise error

    def same(self, kind: str, mine: Mapping[str, Any]) -> None:
        """Raise ConfigError on every rank if a rank has another value than rank 0 under a name."""
        found = self.comm.allgather(dict(mine)) if self.comm else [mine]
        for rank, theirs in enumerate(found):
            for name in sorted(found[0].keys() | theirs.keys()):
                if theirs.get(name) != found[0].get(name):
                    self._fail(
                        ConfigError(
                            f"rank {rank} has another {kind} than rank 0: {name} is {quote(theirs.get(name))}, not "
                            f"{quote(found[0].get(name))}; it must be the same on all ranks"
                        )
                    )

    def largest(self, number: int) -> int:
        """Return the largest number of all ranks."""
        return int(max(self.comm.allgather(int(number)))) if self.comm else number

    def check(self, config: RunConfig | None, resumes: bool) -> None:
        """Raise ConfigError unless all ranks have the same versions and configuration, and enough micro-batches."""
        if not self.comm:
            return
        self.same("version", versions())
        self.same("kind of layers", {"compiled": not why_not_compiled()})
        tables = dataclasses.asdict(config) if config else {}
        self.same("configuration", {name: value for table in tables.values() for name, value in table.items()})
        if config:
            self.check_parts(config.train, resumes)

    def check_parts(self, config: TrainConfig, resumes: bool) -> None:
        """Raise ConfigError if there are fewer micro-batches than ranks."""
        M, P = config.micro_batches, self.size
        if M >= P:
            return
        if resumes:  # micro_batches decides the bits
            start = f"at most {M} ranks" if M > 1 else "it without mpiexec"
            advice = f"the run that goes on keeps them, so start {start}"
        elif config.batch_size < P:
            advice = f"give --micro-batches {P} and --batch-size {P} or more, or start fewer ranks"
        else:
            advice = f"give --micro-batches {P}, or a multiple of {P}, which keeps all ranks busy"
        self._fail(ConfigError(f"{P} ranks need at least {P} micro-batches, but micro_batches is {M}; {advice}"))

    def share(self, make: Callable[[], tuple[Run, bool]], texts: Texts) -> tuple[Run, bool]:
        """Make a run on rank 0, and give it to all ranks. The optimizer has the moments of the rank's own block.

        Args
            texts: reads the texts of this rank, which must be those of rank 0.
        """
        if not self.comm:
            return make()
        made: list[tuple[Run, bool]] = []
        self.first(lambda: made.append(make()))
        parts: Any = None
        if made:
            run, replanned = made[0]
            parts = {item.name: getattr(run, item.name) for item in dataclasses.fields(run)}
            parts |= {"model": None, "optimizer": None}
        parts, replanned = self.comm.bcast((parts, made[0][1] if made else False))

        def check() -> None:
            if self.rank:
                _check_texts(texts(parts["config"], parts["state"]), parts["state"])

        self.together(check)
        if self.rank:
            config = parts["config"]
            model = make_gpt(config.model, config.train.layers, seed=None)
            run = Run(**parts | {"model": model, "optimizer": optimizer_of(model, config.train)})
        assert run.model.flat is not None and run.optimizer is not None
        self.comm.Bcast(run.model.flat.values)
        run.optimizer = OwnersAdamW(self, run.optimizer)
        self.reduce = run.config.train.reduce
        return run, replanned

    def blocks(self, n: int) -> tuple[list[int], list[int]]:
        """Return the size and the start of each rank's block of n numbers: whole chunks."""
        chunks = -(-n // CHUNK)
        starts = [min(n, chunks * rank // self.size * CHUNK) for rank in range(self.size + 1)]
        return np.diff(starts).tolist(), starts[:-1]

    def add_up(self, model: GPT, gradient: Callable[[int], float], n: int, cache: Cache) -> float:
        """Do what ``add_in_order`` does, for this rank's block of the gradients."""
        if not self.comm:
            return add_in_order(model, gradient, n, cache)
        assert model.flat is not None
        grads = model.flat.grads
        sizes, starts = self.blocks(len(grads))
        size, start = sizes[self.rank], starts[self.rank]
        total, losses = cache.scratch("block", (size,), grads.dtype), list[float]()
        if self.reduce == "fast":
            numbers = range(self.rank, n, self.size)
            mine = add_in_order(model, lambda i: gradient(numbers[i]), len(numbers), cache) if numbers else 0.0
            if not numbers:
                grads[...] = 0
            self.comm.Reduce_scatter(grads, total, sizes)
            losses = self.comm.allgather(mine)
        else:
            received = cache.scratch("received", (self.size, size), grads.dtype)
            for first in range(0, n, self.size):  # 1.
                there, number = min(self.size, n - first), first + self.rank
                loss = gradient(number) if number < n else 0.0  # 2.
                sent = sizes if number < n else [0] * self.size
                got = [size] * there + [0] * (self.size - there)
                places = [size * rank for rank in range(self.size)]
                self.comm.Alltoallv([grads, (sent, starts)], [received, (got, places)])  # 3.
                for rank in range(there):  # 4.
                    np.add(total, received[rank], out=total) if first + rank else np.copyto(total, received[rank])
                losses += self.comm.allgather(loss)[:there]
        grads[start : start + size] = total
        return functools.reduce(operator.add, losses)

    def whole(self, optimizer: Any) -> Any:
        """Return, on rank 0, an AdamW with all moments. All ranks call this; the others get None."""
        if not self.comm:
            return optimizer
        made = copy.copy(optimizer.own)
        made.flat = flat = optimizer.flat
        for moment in ("mean", "square"):
            all_of_them = np.empty_like(flat.values) if self.rank == 0 else None
            self.comm.Gatherv(getattr(optimizer.own, moment), [all_of_them, self.blocks(len(flat.values))])
            setattr(made, moment, all_of_them)
        return made if self.rank == 0 else None


class OwnersAdamW(AdamW):
    """AdamW for the flat vector of all ranks: each takes the steps of its own block, and has its moments.

    Attributes
        own: the optimizer of the block.
    """

    def __init__(self, ranks: Ranks, whole: AdamW) -> None:
        self.ranks, self.flat = ranks, whole.flat
        self.blocks = sizes, starts = ranks.blocks(len(self.flat.values))
        start, end = starts[ranks.rank], starts[ranks.rank] + sizes[ranks.rank]
        block = copy.copy(self.flat)
        block.values, block.grads = self.flat.values[start:end], self.flat.grads[start:end]
        block.n_matrix = min(max(self.flat.n_matrix - start, 0), end - start)
        self.own = copy.copy(whole)
        self.own.flat = block
        for moment in ("mean", "square"):
            mine = aligned_empty(end - start, block.values.dtype)
            ranks.comm.Scatterv([getattr(whole, moment), self.blocks], mine)
            setattr(self.own, moment, mine)
        self.own.power1, self.own.power2 = ranks.comm.bcast((whole.power1, whole.power2))

    def grad_norm(self) -> float:
        found = self.ranks.comm.allgather(self.own.squares())  # 5.
        return norm(np.concatenate(found))

    def step(self, learning_rate: float, grad_scale: float = 1.0) -> None:
        self.own.step(learning_rate, grad_scale)  # 6.
        self.ranks.comm.Allgatherv(self._in_place, [self.flat.values, self.blocks])

    @functools.cached_property
    def _in_place(self) -> Any:
        from mpi4py import MPI

        return MPI.IN_PLACE


@functools.cache
def ranks_of_mpiexec() -> Ranks:
    """Return the processes that mpiexec has started together.

    Raises
        ConfigError if they cannot find each other.
    """
    variable, told = size_of_mpiexec()
    if told == "1":
        return Ranks()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"mpiexec has started {told} processes, and they find each other by mpi4py, which cannot be imported "
            f"({error}); pip install 'npgpt[mpi]', or start npgpt without mpiexec"
        ) from None
    if str(found := MPI.COMM_WORLD.Get_size()) != told:
        name, version = MPI.get_vendor()
        beside = Path(sys.executable).with_name("mpiexec")
        raise ConfigError(
            f"mpiexec has started {told} processes, but each sees {found}: mpi4py here is made for {name} "
            f"{'.'.join(map(str, version))}, and mpiexec is that of another MPI; start with "
            f"{beside if beside.exists() else 'the mpiexec of ' + name}; without any mpiexec, unset {variable}"
        )
    ranks = Ranks(MPI.COMM_WORLD)
    _share_cores(ranks.comm.Split_type(MPI.COMM_TYPE_SHARED))
    return ranks


def _share_cores(machine: Any) -> None:
    """Use as many threads as this rank's share of the machine's cores, unless NPGPT_NUM_THREADS says how many."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    of_all = machine.allgather(mine)
    if not os.environ.get("NPGPT_NUM_THREADS") and not why_not_compiled():
        from npgpt.machine.pool import MAX_THREADS, set_num_threads

        share = sum(1 / sum(core in cores for cores in of_all) for core in mine)
        set_num_threads(min(MAX_THREADS, max(1, int(share + 1e-9))))


def _check_texts(texts: TrainingTexts, state: State) -> None:
    mine, right = texts.known_as, state.texts
    if len(mine) != len(right):
        raise DataError(f"this rank has {len(mine)} texts, and rank 0 has {len(right)}")
    for text, known in zip(mine, right, strict=True):
        if text["sha256"] != known["sha256"]:
            raise DataError(
                f"the text {text['name']} is not that of rank 0: its SHA-256 is {text['sha256'][:12]}..., not "
                f"{known['sha256'][:12]}...; copy the text of rank 0 there"
            )


def _tried(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return what work returns, or its error in a form that other processes can read."""
    try:
        return work(), None
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return None, NpgptError(f"{type(error).__name__}: {error}")
        return None, error


def of_rank(error: BaseException, rank: int) -> BaseException:
    """Return an error whose message names its rank."""
    if isinstance(error, OSError) and error.filename:
        return NpgptError(f"rank {rank}: {error.filename}: {error.strerror or error}")
    return type(error)(f"rank {rank}: {error}") if isinstance(error, NpgptError | MemoryError) else error
