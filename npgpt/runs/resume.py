"""A run that goes on: the same settings, the same texts, and a warning for other versions."""

import contextlib
import hashlib
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from npgpt.config import DROPOUTS, TABLES, DataConfig, RunConfig, renamed
from npgpt.core.values import texts as check_texts
from npgpt.data import builtin_name, builtin_texts
from npgpt.errors import ConfigError, DataError, NpgptError, RunError, brief, plain
from npgpt.runs.checkpoint import State, of_step, steps_of, verify, versions
from npgpt.runs.layout import CHECKPOINTS, CONFIG
from npgpt.support.files import read_text
from npgpt.support.text_files import read_files

MAY_CHANGE = {"text", "steps", "keep", "save_at"}  # the rest decides the bits of the weights
MOST_FILES = 20_000  # that are looked at for a text that has moved


@dataclass
class TrainingTexts:
    """Training texts.

    Attributes
        documents: all texts.
        known_as: the absolute path (or another name) and the SHA-256 of each, for a checkpoint.
    """

    documents: list[str]
    known_as: list[dict[str, str]]

    @classmethod
    def read(cls, config: RunConfig, given: Sequence[str] | None) -> "TrainingTexts":
        """Read the texts of a configuration, or take those that a Python program gives."""
        if given is not None:
            documents = list(check_texts("train_run", "texts", [given] if isinstance(given, str) else given))
            return cls(documents, [_known_as(f"texts[{i}]", [text]) for i, text in enumerate(documents)])
        if not config.data.text:
            documents = builtin_texts()
            return cls(documents, [_known_as(builtin_name(), documents)])
        found = read_files(config.data.text)
        if n := len(found.left_out):
            names = ", ".join(map(str, found.left_out[:3]))
            warnings.warn(
                f"{n} of {n + len(found.texts)} files are no UTF-8 text or are blank, and were left out: {names}"
                f"{', ...' if n > 3 else ''}",
                stacklevel=4,
            )
        return cls(
            found.texts,
            [_known_as(os.path.abspath(f[0]), [text]) for f, text in zip(found.files, found.texts, strict=True)],
        )

    @classmethod
    def find(cls, config: RunConfig, given: Sequence[str] | None, state: State) -> "TrainingTexts":
        """Read the texts of a run that goes on. A file that has moved is found by its hash.

        Raises
            DataError that names the first text that is another one, or is missing.
        """
        try:
            texts = cls.read(config, given)
        except (OSError, NpgptError):
            if given is not None or not config.data.text:
                raise
            places = [_moved(known) for known in state.texts]
            if gone := [known["name"] for known, place in zip(state.texts, places, strict=True) if place is None]:
                if os.path.exists(gone[0]):  # and the error says what is wrong with it
                    raise
                raise DataError(
                    f"{brief(gone[0])}, a text of the run, is not there, and no file near its place or in the current "
                    "folder has its content; give its new place with --text"
                ) from None
            texts = cls([read_text(path) for path in places if path], state.texts)
        now = [known["sha256"] for known in texts.known_as]
        then = [known["sha256"] for known in state.texts]
        if sorted(now) == sorted(then):  # some may have other names, and with them another order
            if len(now) == len(texts.documents):
                content = dict(zip(now, texts.documents, strict=True))
                texts.documents = [content[sha256] for sha256 in then]
            return cls(texts.documents, state.texts)
        new = [known for known in texts.known_as if known["sha256"] not in then]
        lost = [known for known in state.texts if known["sha256"] not in now]
        if new and lost:
            raise DataError(
                f"the text {new[0]['name']} is not the one that the run began with, {brief(lost[0]['name'])}: its "
                f"SHA-256 is {new[0]['sha256'][:12]}..., not {lost[0]['sha256'][:12]}...; give that text with --text, "
                "or start from the weights of this run with --init"
            )
        if lost or len(now) < len(then):
            name = brief((lost or state.texts)[-1]["name"])
            raise DataError(f"the text {name} of the run is missing now; give all of its texts with --text")
        name = (new or texts.known_as)[-1]["name"]
        raise DataError(f"the text {name} was not there when the run began; leave it out, or use --init")


def _known_as(name: str, documents: list[str]) -> dict[str, str]:
    data = "\0".join(documents).encode("utf-8", "surrogatepass")
    return {"name": name, "sha256": hashlib.sha256(data).hexdigest()}


def _moved(known: dict[str, str]) -> Path | None:
    """Return the file with the text of a hash: in the current folder, or below what is left of its old path."""
    old = Path(known["name"])
    above = next((folder for folder in old.absolute().parents if os.path.isdir(folder)), Path.cwd())
    if above == Path(above.anchor):  # the disk of the text is not there; this one has files that never end, as in /proc
        above = Path.cwd()
    same_name: list[Path] = [old] if os.path.isfile(old) else []
    others: list[Path] = []
    for path in itertools.islice(itertools.chain(_files(Path.cwd()), _files(above)), MOST_FILES):
        (same_name if path.name == old.name else others if path.suffix == old.suffix else []).append(path)
    for path in [*same_name, *others]:
        try:
            if _known_as("", [read_text(path)])["sha256"] == known["sha256"]:
                return path
        except (OSError, NpgptError):
            continue
    return None


def _files(folder: Path) -> Iterator[Path]:
    """Return the files in a folder and below it; what may not be read is left out."""
    names = (os.path.join(home, name) for home, _, names in os.walk(folder) for name in names)
    return (Path(name) for name in names if os.path.isfile(name))


def check_same_settings(asked: RunConfig, then: RunConfig, state: State) -> None:
    """Raise ConfigError that names the first setting with which a run cannot go on to the same bits."""
    for table, name, new, old in _differences(asked, then):
        if name in MAY_CHANGE or (name == "vocab_size" and new == state.vocab_size):
            continue
        raise ConfigError(
            f"{name} is {_shown(new)}, but the run has {_shown(old)} in [{table}]; leave {name} out to go on with the "
            "same bits, or start another run from its weights with --init"
        )
    if asked.train.steps < state.step:
        raise ConfigError(
            f"steps is the total, {asked.train.steps}, but the run has done {state.step}; give a larger one"
        )


def asked_config(path: Path, given: dict[str, dict[str, Any]], init: bool = False) -> RunConfig:
    """Return the configuration of a run with some fields replaced, for ``resume``; with init, that of ``init``."""
    then = config_in(path)
    base = RunConfig(DataConfig(tokenizer=then.data.tokenizer), then.model) if init else then
    tables: dict[str, Any] = dict(given)  # what is no table or unknown is refused below
    for name in TABLES:
        if isinstance(table := renamed(name, given.get(name, {})), dict):
            tables[name] = asdict(getattr(base, name)) | table
    asked = RunConfig.from_tables(tables)
    if init:
        check_same_model(asked, then)
    return asked


def config_in(path: Path) -> RunConfig:
    """Return the configuration of the newest checkpoint of a run in which it is not damaged."""
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give a run folder, which `npgpt train` makes")
    homes = [of_step(path / CHECKPOINTS, step) for step in reversed(steps_of(path / CHECKPOINTS))]
    for home in [*homes, path]:
        with contextlib.suppress(NpgptError, OSError):
            if home != path:
                verify(home)  # a changed digit would be taken for another setting
            return RunConfig.load(home / CONFIG, complete=True)
    raise RunError(f"{path} is not a run folder: no {CONFIG} can be read there")


def check_same_model(asked: RunConfig, then: RunConfig) -> None:
    """Raise ConfigError that names the first setting with which a run cannot start from the weights of another."""
    for table, name, new, old in _differences(asked, then):
        if name == "vocab_size" and new >= old:  # it is the largest number that was asked for
            continue
        if (table == "model" and name not in DROPOUTS) or name == "tokenizer":
            raise ConfigError(
                f"{name} is {_shown(new)}, but the weights of --init are those of a model with {_shown(old)}; leave "
                f"{name} out"
            )


def warn_of_other_versions(state: State) -> None:
    now = versions()
    other = [
        f"{plain(name)} {now.get(name, 'missing')} (then {brief(then, 20)})"
        for name, then in state.versions.items()
        if now.get(name) != then
    ]
    if other:
        warnings.warn(
            f"the run began with other versions: {', '.join(other)}; the weights may differ in their last bits from "
            "those of a run that was never stopped",
            stacklevel=2,
        )


def _differences(asked: RunConfig, then: RunConfig) -> Iterator[tuple[str, str, Any, Any]]:
    for table, kind in TABLES.items():
        for item in fields(kind):  # type: ignore[arg-type]  # the tables are dataclasses
            new, old = getattr(getattr(asked, table), item.name), getattr(getattr(then, table), item.name)
            if new != old:
                yield table, item.name, new, old


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
