"""What every tokenizer can do, and the one file format in which they are kept.

The file is JSON: ``{"format": "npgpt-tokenizer", "version": 1, "kind": "bpe", ...}``, the rest as the kind needs it.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import regex

from npgpt.errors import TokenizerError
from npgpt.support.files import write_atomically

FORMAT, VERSION = "npgpt-tokenizer", 1
END_OF_TEXT = "<|endoftext|>"

# Special tokens that encode() may recognise in a text: these, all of them, or (by default) none.
AllowedSpecial = Literal["all"] | Collection[str]


class Tokenizer(ABC):
    """Text to ids and back. Ids run from 0 to ``vocab_size - 1``.

    Attributes
        special_tokens: text of each special token -> its id. Such a text inside ordinary text is ordinary text, unless
            the caller allows it: a document must not be able to end itself.
    """

    kind: ClassVar[str]
    special_tokens: dict[str, int]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids."""

    @abstractmethod
    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which nothing is special."""

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode while ids arrive: yields pieces of text that, joined, are ``decode(ids)``."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What the file holds beyond format, version and kind; plain JSON values."""

    @classmethod
    @abstractmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of ``_state``; raises TokenizerError, KeyError or TypeError on a state that makes no sense."""

    def encode(
        self, text: str, allowed_special: AllowedSpecial = (), disallowed_special: AllowedSpecial = ()
    ) -> list[int]:
        """The ids of a text.

        Args
            allowed_special: special tokens that become one id where they stand in the text, or "all".
            disallowed_special: special tokens that must not stand in the text, or "all": all but the allowed ones. By
                default none, so that no text is refused: what is not allowed is ordinary text. (tiktoken has the same
                argument; there the default is "all".)
        Raises
            TokenizerError if a name is no special token of this vocabulary, or if one that is disallowed stands in the
            text.
        """
        special = self.special_tokens
        ids: list[int] = []
        for k, part in enumerate(self._parts(text, allowed_special, disallowed_special)):
            ids.extend([special[part]] if k % 2 else self.encode_ordinary(part))
        return ids

    def _parts(self, text: str, allowed_special: AllowedSpecial, disallowed_special: AllowedSpecial) -> list[str]:
        """Ordinary text, a special token, ordinary text, ...; checks the arguments of ``encode``."""
        if not allowed_special and not disallowed_special:
            return [text]
        allowed = set(self.special_tokens if allowed_special == "all" else allowed_special)
        disallowed = set(self.special_tokens) - allowed if disallowed_special == "all" else set(disallowed_special)
        if unknown := (allowed | disallowed) - self.special_tokens.keys():
            raise TokenizerError(
                f"not a special token of this vocabulary: {', '.join(map(repr, sorted(unknown)))}; "
                f"it has {', '.join(map(repr, self.special_tokens)) or 'none'}"
            )
        if disallowed and (found := _any_of(disallowed).search(text)):
            raise TokenizerError(
                f"the text has the special token {found[0]!r} at character {found.start()}, which is disallowed; name "
                "it in allowed_special to encode it as one id, or not in disallowed_special to encode it as text"
            )
        return _any_of(allowed).split(text) if allowed else [text]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids.

        Raises
            TokenizerError if an id is out of range.
        """
        return "".join(self.stream(ids))

    def _checked(self, ids: Iterable[int]) -> Iterator[int]:
        for position, token in enumerate(ids):
            if not 0 <= token < self.vocab_size:
                raise TokenizerError(
                    f"id {token} at position {position} is out of range: this vocabulary has ids 0 to "
                    f"{self.vocab_size - 1}; were the ids made by another tokenizer?"
                )
            yield int(token)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to ``path``; a crash leaves the old file or the new one."""
        header = {"format": FORMAT, "version": VERSION, "kind": self.kind}
        text = json.dumps(header | self._state(), ensure_ascii=True, separators=(",", ":"))
        write_atomically(path, text.encode("ascii"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a vocabulary that ``save`` wrote. ``Tokenizer.load`` takes any kind, a subclass only its own.

        Raises
            TokenizerError if the file is damaged, of another format or version, or of another kind.
        """
        state = _read_state(Path(path))
        kinds = {sub.kind: sub for sub in Tokenizer.__subclasses__()}
        kind = kinds.get(state["kind"]) if isinstance(state.get("kind"), str) else None
        if kind is None:
            raise TokenizerError(f"{path}: kind of tokenizer {state.get('kind')!r} is unknown; known: {sorted(kinds)}")
        if not issubclass(kind, cls):
            raise TokenizerError(f"{path} holds a {kind.__name__}, not a {cls.__name__}; use Tokenizer.load")
        try:
            return kind._from_state(state)
        except KeyError as error:
            raise TokenizerError(f"{path}: the field {error} is missing") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise TokenizerError(f"{path}: {error}") from None


def _any_of(texts: Collection[str]) -> regex.Pattern[str]:
    return regex.compile(f"({'|'.join(map(regex.escape, sorted(texts, key=len, reverse=True)))})")


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise TokenizerError(f"{path} is not a tokenizer file: {error}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TokenizerError(f'{path} is not a tokenizer file of npgpt: it has no "format": "{FORMAT}"')
    if type(state.get("version")) is not int or state["version"] != VERSION:
        raise TokenizerError(f"{path} has version {state.get('version')!r}; this npgpt reads version {VERSION}")
    return state


def vocabulary_from(state: dict[str, Any], field: str) -> list[str]:
    """A list of distinct strings out of a file's state, checked."""
    words = state[field]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TokenizerError(f"{field} must be a list of strings")
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        raise TokenizerError(f"{field} holds {twice!r} more than once")
    return words
