"""``train_run``: train a tokenizer and a GPT, save checkpoints, and go on from one."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from npgpt.baselines import bigram_loss, unigram_loss
from npgpt.build import make_gpt
from npgpt.config import DROPOUTS, DataConfig, GPTConfig, RunConfig
from npgpt.core.values import flag
from npgpt.core.values import path as check_path
from npgpt.data import encode_texts, split_texts
from npgpt.errors import ConfigError, RunError, TrainingError, quote
from npgpt.evaluation import bits_per_byte, count_bytes
from npgpt.memory import check_memory
from npgpt.optim import AdamW
from npgpt.runs.checkpoint import State, best_step, read_parts, read_state, restore, steps_of
from npgpt.runs.folder import RunFolder
from npgpt.runs.judgement import best_of, diverging
from npgpt.runs.layout import CHECKPOINTS, METRICS, MODEL, OF_ALL_VERSIONS, PICTURE, RECORD
from npgpt.runs.metrics import cut_record, read_metrics, up_to, write_metrics
from npgpt.runs.ranks import Ranks
from npgpt.runs.resume import TrainingTexts, check_same_model, check_same_settings, warn_of_other_versions
from npgpt.runs.run import Run, load_run
from npgpt.runs.weights import load_model
from npgpt.support.pictures import draw_losses
from npgpt.support.terminal import typed
from npgpt.support.text_files import expand_paths
from npgpt.tokenizer import KINDS, Tokenizer
from npgpt.train import VALIDATION_SAMPLE, Step, evaluate, optimizer_of, training_steps, training_windows

Progress = Callable[[str, int, int], Any]


class _Stopped(Exception):  # noqa: N818  # it is no error
    """``stop`` was true during an evaluation."""


def train_run(
    config: RunConfig | None = None,
    texts: Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    runs: str | Path | None = None,
    overwrite: bool = False,
    resume: str | Path | None = None,
    init: str | Path | None = None,
    on_start: Callable[[Run], Any] | None = None,
    on_step: Callable[[Run, Step], Any] | None = None,
    on_evaluation: Callable[[Run, dict[str, Any]], Any] | None = None,
    on_progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
    ranks: Ranks | None = None,
) -> Run:
    """Train a tokenizer and a GPT.

    Args
        texts: documents; by default those that the configuration names, or the built-in ones.
        out: the run folder, written at each evaluation; by default nothing is written (``Run.save`` writes it later).
        runs: a folder of runs; the run gets the first free one of runs/1, runs/2, ...
        overwrite: whether an existing run in this folder may be replaced.
        resume: the folder of a run that was stopped. It goes on to ``config.train.steps`` in all, to the same bits as a
            run that was never stopped. With another total, a new schedule of the learning rate begins at this step.
            ``config`` is by default that of the run.
        init: the folder of a run whose best weights and whose tokenizer are the first ones, on other texts.
        on_start: called before the first evaluation.
        on_step: called after each optimizer step, before an evaluation at that step.
        on_evaluation: called with the new row of metrics, after the checkpoint has been written.
        on_progress: called during long work with its name, and how much is done of how much.
        stop: asked after each step, and during evaluations; if it is true, a checkpoint is written, and the run is
            returned as it is.
        ranks: ``ranks_of_mpiexec()``: the processes that train together. Only rank 0 uses the folders, and returns an
            optimizer. An error of one rank alone ends the processes of all.
    Raises
        ConfigError, DataError or TokenizerError if the texts cannot be used; RunError if the folder must not be written
        to; TrainingError if a loss is not finite or the run diverges: the best weights are kept.
    """
    ranks = ranks or Ranks()
    with contextlib.ExitStack() as stack:
        stack.push(ranks.left)
        overwrite = flag("train_run", "overwrite", overwrite)
        paths = {"out": out, "runs": runs, "resume": resume, "init": init}
        given = {name: path for name, path in paths.items() if path is not None}
        places = {name: check_path("train_run", name, path, RunError) for name, path in given.items()}
        if len(places.keys() - {"init"}) > 1 or len(places.keys() & {"resume", "init"}) > 1:
            raise ConfigError(f"train_run: {' and '.join(places)} contradict each other; give one of them")
        progress = on_progress or (lambda *_: None)
        folder: RunFolder | None = None
        resumes, saves = "resume" in places, bool(places.keys() - {"init"})
        ranks.check(config if resumes else config or RunConfig(), resumes)

        def make() -> tuple[Run, bool]:
            nonlocal folder
            if resumes:
                folder = RunFolder.reopen(places["resume"])
                stack.callback(folder.close)
                return _resumed(folder, config, texts, progress, ranks)
            if "out" in places:
                _check_out(places["out"], overwrite, config or RunConfig())  # before any work is done
            return _new(config or RunConfig(), texts, places.get("init"), progress), False

        def start() -> None:
            nonlocal folder
            if on_start:
                on_start(run)
            if not folder and saves:
                out = places.get("out")
                folder = RunFolder.create(out, overwrite) if out else RunFolder.create_next(places["runs"])
                stack.callback(folder.close)
            run.path = folder.path if folder else None

        def texts_here(config: RunConfig, state: State) -> TrainingTexts:
            return TrainingTexts.find(config, texts, state) if resumes else TrainingTexts.read(config, texts)

        run, replanned = ranks.share(make, texts_here)
        ranks.first(start)
        told = on_step, on_evaluation, progress, stop or (lambda: False)
        _Training(run, folder, *told, replanned, ranks, saves).go()
        run.optimizer = ranks.whole(run.optimizer)
    return run


def _check_out(out: Path, overwrite: bool, config: RunConfig) -> None:
    RunFolder.check(out, overwrite)
    ours = {(out / name).resolve() for name in OF_ALL_VERSIONS}
    for text in expand_paths(config.data.text):
        if ours & {text.resolve(), *text.resolve().parents}:
            raise RunError(f"the run in {out} would replace the training text {text}; use another --out")


def _new(config: RunConfig, given: Sequence[str] | None, init: Path | None, progress: Progress) -> Run:
    """Return a run at step 0."""
    asked = config.model.vocab_size
    smallest = dataclasses.replace(config.model, vocab_size=1)
    check_memory(smallest, config.train)  # before any work
    texts = TrainingTexts.read(config, given)
    train_texts, validation_texts = split_texts(texts.documents, config.data.validation_fraction)
    if init is None:
        progress("learning the vocabulary", 0, 1)
        tokenizer = train_tokenizer(config, train_texts)
        progress("learning the vocabulary", 1, 1)
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size))
        first = None
    else:
        first = load_run(init)
        tokenizer, then = first.tokenizer, first.config
        if config.model == GPTConfig() and config.data.tokenizer == DataConfig().tokenizer:  # none was chosen
            data = dataclasses.replace(config.data, tokenizer=then.data.tokenizer)
            config = dataclasses.replace(config, model=then.model, data=data)
        check_same_model(config, then)
        dropouts = {name: getattr(config.model, name) for name in DROPOUTS}
        config = dataclasses.replace(config, model=dataclasses.replace(then.model, **dropouts))
    run = _prepared(config, tokenizer, train_texts, validation_texts, progress)
    if first is not None:
        run.model.flat.values[:] = first.model.flat.values
    run.state = State(baselines=run.baselines, texts=texts.known_as, vocab_size=asked)
    return run


def _resumed(
    folder: RunFolder, config: RunConfig | None, given: Sequence[str] | None, progress: Progress, ranks: Ranks
) -> tuple[Run, bool]:
    """Return the run of a folder at its newest checkpoint, and whether its total is a new one."""
    path = folder.newest()
    (then, tokenizer), state = read_parts(path), read_state(path)
    config = config or then
    check_same_settings(config, then, state)
    ranks.check_parts(config.train, resumes=True)
    config = dataclasses.replace(config, model=then.model)  # its vocabulary may be smaller than the one asked for
    warn_of_other_versions(state)
    texts = TrainingTexts.find(config, given, state)
    train_texts, validation_texts = split_texts(texts.documents, config.data.validation_fraction)
    run = _prepared(config, tokenizer, train_texts, validation_texts, progress, path / MODEL)
    assert run.optimizer is not None
    restore(path, run.model, run.optimizer, state)
    if config.train.steps != then.train.steps:
        state.schedule_from = state.step
    run.state, state.baselines = state, run.baselines  # those of the same texts
    run.metrics = up_to(read_metrics(folder.path / METRICS), state.step, state.row)
    for row in run.metrics:
        if missing := {"step", "train_loss", "val_loss"} - row.keys():
            raise RunError(
                f"{folder.path / METRICS}: a row has no {min(missing)}: {quote(row)}; correct it, or delete the file"
            )
    replanned = config.train.steps != then.train.steps
    kept = run.metrics[:-1] if replanned and state.row else run.metrics  # it is written again, with the new total
    write_metrics(folder.path / METRICS, kept)  # rows after the checkpoint are cut
    cut_record(folder.path / RECORD, state.step)
    folder.copy_settings(config, tokenizer)
    folder.prune(config)  # a crash may have come between a checkpoint and this
    return run, replanned


def _prepared(
    config: RunConfig,
    tokenizer: Tokenizer,
    train_texts: Sequence[str],
    validation_texts: Sequence[str],
    progress: Progress,
    weights: Path | None = None,
) -> Run:
    """Encode the texts, and make the model and its optimizer."""
    ids, validation_ids = (
        encode_texts(tokenizer, texts, lambda done, total: progress("tokenizing", done, total))
        for texts in (train_texts, validation_texts)
    )
    training_windows(ids, config.model.context_length, config.train)  # refuses a text that is too short
    check_memory(config.model, config.train)
    layers = config.train.layers
    model = load_model(weights, config.model, layers) if weights else make_gpt(config.model, layers, config.train.seed)
    baselines = {
        "unigram_loss": unigram_loss(ids, validation_ids, tokenizer.vocab_size),
        "bigram_loss": bigram_loss(ids, validation_ids, tokenizer.vocab_size),
    }
    optimizer, n_bytes = optimizer_of(model, config.train), count_bytes(validation_texts)
    return Run(config, tokenizer, model, [], baselines, ids, validation_ids, optimizer, validation_bytes=n_bytes)


class _Training:
    """The loop of one run, from its step to the last."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder | None,
        on_step: Callable[[Run, Step], Any] | None,
        on_evaluation: Callable[[Run, dict[str, Any]], Any] | None,
        progress: Progress,
        stop: Callable[[], bool],
        replanned: bool,
        ranks: Ranks,
        saves: bool,
    ) -> None:
        assert run.train_ids is not None and run.validation_ids is not None and run.optimizer is not None
        assert run.validation_bytes is not None
        self.run, self.folder, self.config, self.state = run, folder, run.config.train, run.state
        self.on_step, self.on_evaluation, self.progress, self.stop = on_step, on_evaluation, progress, stop
        self.ids, self.validation_ids, self.optimizer = run.train_ids, run.validation_ids, run.optimizer
        self.validation_bytes = run.validation_bytes
        self.replanned, self.ranks, self.saves = replanned, ranks, saves
        self.tokens, self.started = 0, time.perf_counter()

    def go(self) -> None:
        run, state, config = self.run, self.state, self.config
        if self.replanned:
            if state.step == config.steps and state.row:  # it is the last one now: the whole text is evaluated
                state.losses = state.row["train_loss"], 1
                run.metrics, state.row = up_to(run.metrics, state.step, None), None
            else:
                self._save()
        if self._is_due() and state.row is None and not state.losses[1]:  # at step 0
            T = run.config.model.context_length
            state.losses = self.ranks.first(lambda: evaluate(run.model, self.ids[: 1 + 16 * T])), 1
        if self._is_due() and state.row is None and not self._evaluated():
            return
        place = state.step, state.schedule_from
        steps = training_steps(run.model, self.ids, config, self.optimizer, *place, self.ranks.add_up)
        for step in self._with_kept_batch(steps):
            state.step, state.row = step.number, None
            state.losses = state.losses[0] + step.loss, state.losses[1] + 1
            self.tokens += step.n_tokens
            if self.on_step:
                self.on_step(run, step)
            if self.ranks.largest(self.stop()):
                self._save()
                return
            if self._is_due():
                if not self._evaluated():
                    return
            elif state.step in config.save_at:
                self._save()
        if self.folder:
            with contextlib.suppress(ConfigError, OSError):  # without matplotlib, or without room
                draw_losses(self.folder.path / PICTURE, run.metrics, run.baselines)

    def _is_due(self) -> bool:
        return self.state.step % self.config.eval_every == 0 or self.state.step == self.config.steps

    def _evaluated(self) -> bool:
        """Evaluate and save. Return False if ``stop`` has come between."""
        run, state = self.run, self.state
        speed = self.tokens / (time.perf_counter() - self.started) if self.tokens else 0.0
        try:
            row = self.ranks.first(lambda: self._row(speed))
        except _Stopped:
            self._save()
            return False
        state.row = row
        run.metrics.append(row)
        state.losses = 0.0, 0
        self._save()
        if self.on_evaluation:
            self.on_evaluation(run, row)
        if diverging(run.metrics, run.baselines["unigram_loss"]):
            best, kept = best_of(run.metrics), self._best()
            raise TrainingError(
                f"step {state.step}: the run is diverging: the validation loss is {row['val_loss']:.3f}, after "
                f"{best['val_loss']:.3f} at step {best['step']}; the weights of step {kept} are kept. Use a "
                "lower learning_rate or a longer warm-up (warmup_steps)"
            )
        self.tokens, self.started = 0, time.perf_counter()
        return True

    def _row(self, tokens_per_s: float) -> dict[str, Any]:
        """Return the row of metrics of an evaluation.

        Raises
            TrainingError if the validation loss is not finite.
        """
        state, n_losses = self.state, self.state.losses[1]
        val_loss = self._loss(VALIDATION_SAMPLE)
        row = {"step": state.step, "train_loss": state.losses[0] / n_losses, "val_loss": val_loss}
        row["val_bits_per_byte"] = bits_per_byte(val_loss, len(self.validation_ids), self.validation_bytes)
        row["tokens_per_s"] = tokens_per_s
        if state.step == self.config.steps:  # the sample may be all of it
            whole = len(self.validation_ids) > VALIDATION_SAMPLE
            row["val_loss_whole"] = self._loss(None) if whole else val_loss
        return row | (self.run.baselines if state.step == 0 else {})

    def _loss(self, at_most: int | None) -> float:
        def show(done: int, total: int) -> None:
            self.progress("evaluating", done, total)
            if self.stop():
                raise _Stopped

        loss = evaluate(self.run.model, self.validation_ids, at_most=at_most, progress=show)
        if not math.isfinite(loss):
            raise TrainingError(
                f"step {self.state.step}: training diverged; the validation loss is {loss}"
                f"{self._kept(self.state.step)}. Use a lower learning_rate or a longer warm-up (warmup_steps)"
            )
        return loss

    def _save(self) -> None:
        """Write a checkpoint."""
        if self.saves:
            optimizer = self.ranks.whole(self.optimizer)
            self.ranks.first(lambda: self._write(optimizer))

    def _write(self, optimizer: AdamW) -> None:
        run = self.run
        assert self.folder is not None
        try:
            self.folder.save(run.config, run.tokenizer, run.model, optimizer, self.state)
        except OSError as error:
            where = error.filename or self.folder.path
            raise RunError(f"{where}: {error.strerror or error}; {self._last_checkpoint()}") from None

    def _last_checkpoint(self) -> str:
        """Say which checkpoint there is after a failure, and how to go on from it."""
        assert self.folder is not None
        path = self.folder.path
        if not self.folder.begun:
            return f"nothing of this run is saved; another run that {path} may hold is untouched"
        return f"the checkpoint of step {steps_of(path / CHECKPOINTS)[-1]} is whole: npgpt train --resume {typed(path)}"

    def _with_kept_batch(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Yield the steps. If one fails because a number is not finite, keep its batch, and say where."""
        try:
            yield from steps
        except TrainingError as error:
            message, _, advice = str(error).partition(". Use")
            raise TrainingError(f"{message}{self._kept(self.state.step + 1)}. Use{advice}") from None

    def _kept(self, step: int) -> str:
        """Keep the batch of a step and the weights for ``npgpt explain``; say where, and which weights remain."""
        run = self.run
        says = f"; the weights of step {self._best()} are kept" if run.metrics else ""
        assert run.model.flat is not None
        if self.folder is None or step == 0 or not np.isfinite(run.model.flat.values).all():
            return says
        x, y = training_windows(self.ids, run.config.model.context_length, self.config).batch(step - 1)
        batch = {"step": step, "x": x.tolist(), "y": y.tolist()}
        try:
            path = self.folder.save_batch(run.config, run.tokenizer, run.model, self.state, batch)
        except OSError as error:  # it must not hide that training diverged
            return f"{says}; its batch could not be kept: {error.strerror}"
        return f"{says}; look at the batch with `npgpt explain --run {typed(path)}`"

    def _best(self) -> int:
        """Return the step of the best weights: on the disk, if there is a folder."""
        home = self.folder.path / CHECKPOINTS if self.folder else None
        return best_step(home, steps_of(home)) if home and steps_of(home) else int(best_of(self.run.metrics)["step"])


def train_tokenizer(config: RunConfig, texts: Sequence[str]) -> Tokenizer:
    """Train the tokenizer of a configuration on texts."""
    tokenizer: Tokenizer = KINDS[config.data.tokenizer].train(texts, config.model.vocab_size)
    return tokenizer
