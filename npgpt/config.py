"""The configuration of a run: frozen dataclasses, read from TOML and written to it.

A configuration file has the tables ``[data]``, ``[model]`` and ``[train]``. A missing field has its default.
"""

import dataclasses
import json
import math
import operator
import re
import tomllib
import types
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from npgpt.core.values import LARGEST, LARGEST_SEED, as_python, flag, shown, texts
from npgpt.core.values import path as check_path
from npgpt.errors import ConfigError, brief, did_you_mean, plain, quote
from npgpt.layers.activations import ACTIVATIONS
from npgpt.layers.schemes import SCHEMES
from npgpt.support.compressed import open_bytes

TOKENIZERS = ("bpe", "word", "char")
LAYERS = ("compiled", "textbook")
REDUCES = ("exact", "fast")  # how ranks add their gradients, ``runs.ranks``
IN_THE_STREAM = tuple(name for name, scheme in SCHEMES.items() if scheme.vectors)  # the others act in the scores
COMBINE = ("add", "concatenate", "concatenate-unprojected")
DROPOUTS = ("dropout", "embedding_dropout", "attention_dropout")  # another training of the same weights may change them
# Earlier runs lack these fields: they have defaults.
LATER = {
    "positions", "combine", "n_position", "n_inner", "layer_norm_epsilon", *DROPOUTS[1:], "keep", "save_at",
    "reduce",
}  # fmt: skip
RENAMED = {"train": {"kernels": "layers"}}  # table -> name of a field in npgpt 0.1 -> its name now
LIMITS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}
MAX_FILE_BYTES = 65536  # of a configuration file; tomllib is slow on hostile ones


MOST_DOTS = 50  # in a key; the tables of a configuration have one part, and tomllib takes quadratic time for many
_DEEP_KEY = re.compile(rb"(?<![\w\"'-])(?:[\w\"'-]++[ \t]*+\.[ \t]*+){%d}" % MOST_DOTS)


def option(default: Any, help: str, flag: bool = True, **limits: Any) -> Any:
    """Return a field with its help for the command line, and the limits of its values.

    Args
        flag: whether the command line has a flag for it; a configuration file always may set it.
        limits: ``at_least``, ``above``, ``at_most``, ``below`` (numbers) or ``one_of`` (a tuple).
    """
    factory = {"default_factory": default.copy} if isinstance(default, list) else {"default": default}
    return field(**factory, metadata={"help": help, "flag": flag, "limits": limits})


class Options:
    """The base of the tables. It checks each value against the type and the limits of its field."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]  # the subclasses are dataclasses
            value = getattr(self, item.name)
            if item.type == list[str] and not isinstance(value, list):
                value = texts(type(self).__name__, item.name, value, ConfigError)
            elif item.type == list[int] and isinstance(value, list | tuple):
                value = [as_python(step) for step in value]
            value = as_python(value)  # TOML and JSON cannot hold a NumPy number, such as one of np.logspace
            check_value(item, value)
            object.__setattr__(self, item.name, float(value) if kind_of(item) is float and value is not None else value)

    @classmethod
    def names(cls) -> set[str]:
        return {item.name for item in fields(cls)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class DataConfig(Options):
    """The text and its tokenizer."""

    text: list[str] = option(
        [],
        "UTF-8 text files, folders of them, or patterns such as 'books/**/*.txt', relative to the current folder; "
        "without any, Python's own documentation",
    )
    tokenizer: str = option("bpe", "kind of token: byte pair, word or character", one_of=TOKENIZERS)
    validation_fraction: float = option(0.1, "fraction of each text, at its end, for validation", above=0, below=1)


@dataclass(frozen=True)
class GPTConfig(Options):
    """The shape of a GPT.

    Attributes
        dropout: after the embedding, on attention weights, and on what attention and MLP add to the residual stream;
            ``embedding_dropout`` and ``attention_dropout`` replace it in the first two places if they are not None.
        any_length: whether the model may see more than context_length tokens: True without learned positions.
    Raises
        ConfigError if a value is out of its limits, n_head does not divide n_embd, or the choices for positions
        contradict each other.

    >>> GPTConfig(n_embd=100, n_head=3)
    Traceback (most recent call last):
    npgpt.errors.ConfigError: n_embd 100 cannot be divided among n_head 3 heads
    """

    vocab_size: int = option(512, "largest number of different tokens; a short text has fewer", at_least=1)
    context_length: int = option(64, "number of tokens that the model sees at once", at_least=1)
    n_layer: int = option(4, "number of transformer blocks", at_least=1)
    n_head: int = option(4, "number of attention heads in each block", at_least=1)
    n_embd: int = option(128, "number of channels: the hidden size", at_least=1)
    dropout: float = option(0.0, "dropout probability during training", at_least=0, below=1)
    tie_weights: bool = option(True, "one matrix for token embedding and vocabulary head")
    activation: str = option("gelu_tanh", "activation function of the MLP", one_of=tuple(ACTIVATIONS))
    positions: str = option("learned", "position scheme", one_of=tuple(SCHEMES))
    combine: str = option(
        "add", "how the vectors of learned and sinusoidal positions join token vectors", one_of=COMBINE
    )
    n_position: int = option(32, "number of channels of a concatenated position vector", at_least=1)
    # Without a flag: GPT-2's configurations have them, and a file of --config may.
    n_inner: int | None = option(
        None, "hidden size of the MLP; 4 times n_embd if it is left out", flag=False, at_least=1
    )
    layer_norm_epsilon: float = option(1e-5, "epsilon of layer norm, added to the variance", flag=False, at_least=0)
    embedding_dropout: float | None = option(
        None, "another dropout probability after the embedding", flag=False, at_least=0, below=1
    )
    attention_dropout: float | None = option(
        None, "another dropout probability for attention weights", flag=False, at_least=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd {self.n_embd} cannot be divided among n_head {self.n_head} heads")
        if self.positions == "rotary" and self.n_embd == self.n_head:
            raise ConfigError(
                f"positions 'rotary' rotate pairs of channels, but n_embd {self.n_embd} among n_head {self.n_head} "
                "heads gives one channel to each head; use fewer heads"
            )
        if self.combine == "add":
            return
        if self.positions not in IN_THE_STREAM:
            raise ConfigError(
                f"combine {self.combine!r} needs positions that are vectors, {' or '.join(IN_THE_STREAM)}; "
                f"{self.positions!r} has no vectors; use combine 'add', or positions 'learned'"
            )
        if self.combine == "concatenate-unprojected" and self.tie_weights:
            raise ConfigError(
                "combine 'concatenate-unprojected' makes the token embedding narrower than the vocabulary head, so "
                "they cannot share weights; set tie_weights to false (--no-tie-weights), or use combine 'concatenate'"
            )
        if self.combine == "concatenate-unprojected" and self.n_position >= self.n_embd:
            raise ConfigError(
                f"n_position {self.n_position} leaves no channel of n_embd {self.n_embd} for the token; "
                "use a smaller n_position"
            )

    @property
    def any_length(self) -> bool:
        return SCHEMES[self.positions].vector_shape is None


@dataclass(frozen=True)
class TrainConfig(Options):
    """How a GPT is trained."""

    steps: int = option(500, "number of optimizer steps", at_least=1)
    batch_size: int = option(16, "number of examples in each step", at_least=1)
    micro_batches: int = option(1, "number of parts of each batch; more parts need less memory", at_least=1)
    stride: int = option(1, "number of tokens from the start of one training example to the next", at_least=1)
    learning_rate: float = option(3e-3, "highest learning rate, after the warm-up", above=0)
    min_learning_rate_ratio: float = option(
        0.1, "learning rate of the last step, as a fraction of the highest", at_least=0, at_most=1
    )
    warmup_steps: int = option(50, "number of steps in which the learning rate rises", at_least=0)
    weight_decay: float = option(0.1, "AdamW's weight decay, on matrices only", at_least=0)
    beta1: float = option(0.9, "AdamW's decay rate for the running mean of gradients", at_least=0, below=1)
    beta2: float = option(0.95, "AdamW's decay rate for the running mean of squared gradients", at_least=0, below=1)
    eps: float = option(1e-8, "AdamW's epsilon, added to the denominator", above=0)
    grad_clip: float = option(1.0, "largest norm of the gradient; a larger gradient is scaled down", above=0)
    layers: str = option(
        "compiled", "compiled layers (fast, the same bits everywhere) or textbook layers (NumPy)", one_of=LAYERS
    )
    eval_every: int = option(100, "number of steps from one evaluation and checkpoint to the next", at_least=1)
    keep: int = option(0, "number of checkpoints to keep besides the newest and the best", at_least=0)
    save_at: list[int] = option([], "steps whose checkpoints are saved and kept, too: 0,1,10,100")
    reduce: str = option(
        "exact", "on several machines: exact has the bits of one; fast has one sum of all gradients", one_of=REDUCES
    )
    seed: int = option(0, "seed of initial weights, order of examples, dropout and samples", at_least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batches > self.batch_size:
            raise ConfigError(f"micro_batches {self.micro_batches} are more than the batch_size {self.batch_size}")


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration of a run: the file ``config.toml``."""

    data: DataConfig = field(default_factory=DataConfig)
    model: GPTConfig = field(default_factory=GPTConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def load(cls, path: str | Path, complete: bool = False) -> Self:
        """Read a TOML file.

        Args
            complete: whether every field is required, as in the file of a run. Newer fields are never required.
        Raises
            ConfigError that names the file and the field if the file is not TOML, or a field is unknown or not valid.
        """
        complete = flag("RunConfig.load", "complete", complete)
        tables = read_toml(path)
        try:
            return cls.from_tables(tables, complete)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def from_tables(cls, tables: dict[str, Any], complete: bool = False) -> Self:
        """Check a dict of table -> field -> value. A field may have its name of npgpt 0.1."""
        tables = {name: renamed(name, table) for name, table in tables.items()}
        if unknown := sorted(tables.keys() - TABLES.keys()):
            raise ConfigError(f"unknown table [{plain(unknown[0][:60])}]; {did_you_mean(unknown[0], TABLES)}")
        for name, kind in TABLES.items():
            table = tables.get(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{name} must be a table, [{name}], not {quote(table)}")
            for field_name in sorted(table.keys() - kind.names()):
                home = next(
                    (f"it belongs in [{other}]" for other in TABLES if field_name in TABLES[other].names()), None
                )
                hint = home or did_you_mean(field_name, kind.names())
                raise ConfigError(f"unknown field {quote(field_name)} in [{name}]; {hint}")
        for name, kind in TABLES.items():
            if complete and (missing := sorted(kind.names() - tables.get(name, {}).keys() - LATER)):
                raise ConfigError(f"the field {missing[0]} is missing in [{name}]")
        return cls(**{name: kind(**tables.get(name, {})) for name, kind in TABLES.items()})  # type: ignore[arg-type]

    def dumps(self) -> str:
        """Return every field as TOML, with its help as a comment."""
        lines = []
        for table in fields(self):
            lines.append(f"[{table.name}]")
            for item in fields(table.default_factory):  # type: ignore[arg-type]
                value = getattr(getattr(self, table.name), item.name)
                if value is not None:  # TOML has no null
                    lines.append(f"{item.name} = {_toml(value)}  # {item.metadata['help']}")
            lines.append("")
        return "\n".join(lines)


TABLES: dict[str, type[Options]] = {"data": DataConfig, "model": GPTConfig, "train": TrainConfig}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file, unchecked.

    Raises
        ConfigError that names the file if it is not TOML.
    """
    path = check_path("RunConfig.load", "path", path, ConfigError)
    with open_bytes(path) as file:
        data = file.read(MAX_FILE_BYTES + 1)  # no more: the file may be endless, as /dev/zero
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: more than {MAX_FILE_BYTES:,} bytes are too many for a configuration")
    if _DEEP_KEY.search(data):
        raise ConfigError(f"{path}: not TOML of this kind: a key has more than {MOST_DOTS} parts")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte 0x{data[error.start]:02x} at offset {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {brief(error)}") from None


def renamed(name: str, table: Any) -> Any:
    """Return a table with the present names of its fields."""
    if not isinstance(table, dict):
        return table  # refused later
    for old, new in RENAMED.get(name, {}).items():
        if old in table and new in table:
            raise ConfigError(f"[{name}] has both {old!r} and its new name {new!r}; keep {new!r}")
        table = {new if field_name == old else field_name: value for field_name, value in table.items()}
    return table


def kind_of(item: "dataclasses.Field[Any]") -> Any:
    """Return the type of a field; of one that may be None, the type of its other values."""
    return item.type.__args__[0] if isinstance(item.type, types.UnionType) else item.type


def check_value(item: "dataclasses.Field[Any]", value: Any) -> None:
    """Refuse a value of another type than its field, or beyond the limits of the field."""
    if value is None and item.default is None:
        return
    fits, kind = {
        bool: (isinstance(value, bool), "true or false"),
        int: (type(value) is int, "a whole number"),
        float: (type(value) is float or (type(value) is int and abs(value) < 2**1023), "a number"),
        str: (isinstance(value, str), "a string"),
        list[str]: (isinstance(value, list) and all(isinstance(text, str) for text in value), "a list of strings"),
        list[int]: (
            isinstance(value, list) and all(type(step) is int and 0 <= step <= LARGEST for step in value),
            "a list of whole numbers from 0",
        ),
    }[kind_of(item)]
    if not fits:
        raise ConfigError(f"{item.name} must be {kind}, not {shown(value)}")
    if isinstance(value, float) and math.isinf(value):
        raise ConfigError(f"{item.name} must be finite, not {value}")
    largest = LARGEST_SEED if item.name == "seed" else LARGEST
    if type(value) is int and value > largest:
        raise ConfigError(f"{item.name} must be at most {largest}, not {quote(value)}")
    for text in value if item.type == list[str] else []:
        if not text or any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError(f"{item.name}: {quote(text)} is not a file name in UTF-8; rename the file")
    for name, limit in item.metadata["limits"].items():
        if name == "one_of" and value not in limit:
            raise ConfigError(f"{item.name} {quote(value)} is unknown; {did_you_mean(value, limit)}")
        if name != "one_of" and not LIMITS[name](value, limit):  # NaN fails too
            raise ConfigError(f"{item.name} must be {name.replace('_', ' ')} {limit}, not {quote(value)}")


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):  # JSON and TOML have the same escapes, except for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
