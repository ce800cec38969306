"""The protocol of all tokenizers, and their file format.

The file is JSON: ``{"format": "npgpt-tokenizer", "version": 1, "kind": "bpe", ...}``; other fields depend on the kind.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import regex
from numpy.typing import NDArray

from npgpt.core.shapes import as_ids
from npgpt.core.values import path as check_path
from npgpt.core.values import shown, texts
from npgpt.core.values import text as check_text
from npgpt.errors import DataError, NpgptError, TokenizerError, quote
from npgpt.support.compressed import packed_for, read_bytes
from npgpt.support.files import write_atomically
from npgpt.support.json_files import MAX_JSON, MAX_VALUES, has_too_many_values, parse_json

FORMAT, VERSION = "npgpt-tokenizer", 1
END_OF_TEXT = "<|endoftext|>"

# Special tokens that encode() recognises in a text: the named ones, all of them, or (by default) none.
AllowedSpecial = Literal["all"] | Collection[str]
NONE: AllowedSpecial = ()


class Tokenizer(ABC):
    """Encode text as ids and decode ids. Ids run from 0 to ``vocab_size - 1``.

    Attributes
        kind, fields: the name of the kind, and of the fields of its file.
        special_tokens: text of each special token -> its id. In a document such a text is ordinary text, unless the
            caller allows it: so a document cannot contain a real end-of-text token. ``train`` leaves out
            ``<|endoftext|>``, which separates the documents of a training text.
    """

    kind: ClassVar[str]
    fields: ClassVar[frozenset[str]]
    special_tokens: dict[str, int]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The number of ids."""

    @abstractmethod
    def encode_ordinary(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Decode ids as they arrive; yield pieces of text that together are ``decode(ids)``."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The fields of the file besides format, version and kind, as JSON values."""

    @classmethod
    @abstractmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of ``_state``, for any object with these fields. Raises NpgptError on an invalid state."""

    def encode(
        self, text: str, allowed_special: AllowedSpecial = NONE, disallowed_special: AllowedSpecial = NONE
    ) -> list[int]:
        """Return the ids of a text.

        Args
            allowed_special: special tokens that are encoded as one id, or "all".
            disallowed_special: special tokens that the text must not contain, or "all": all that are not allowed. The
                default is none: no text is rejected, and tokens that are not allowed become ordinary text. (tiktoken
                has the same argument with the default "all".)
        Raises
            TokenizerError if a name is not a special token here, or if the text contains a disallowed one.
        """
        text = check_text("encode", "text", text, TokenizerError)
        if allowed_special is disallowed_special is NONE:  # the usual case, and quick
            return list(self.encode_ordinary(text))  # a subclass may keep its list, or return another sequence
        special = self.special_tokens
        first, *others = self._parts(text, allowed_special, disallowed_special)
        ids = list(self.encode_ordinary(first))
        for k, part in enumerate(others):
            ids.extend(self.encode_ordinary(part) if k % 2 else [special[part]])
        return ids

    def encode_array(
        self, text: str, allowed_special: AllowedSpecial = NONE, disallowed_special: AllowedSpecial = NONE
    ) -> NDArray[np.uint32]:
        """Return the ids of a text as uint32 (n,), without making a list where the vocabulary allows that.

        Args and Raises: as ``encode``.
        """
        text = check_text("encode_array", "text", text, TokenizerError)
        if allowed_special is disallowed_special is NONE:
            return self._ordinary_array(text)
        parts = self._parts(text, allowed_special, disallowed_special)
        special = self.special_tokens
        found = [
            np.array([special[part]], np.uint32) if k % 2 else self._ordinary_array(part)
            for k, part in enumerate(parts)
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _ordinary_array(self, text: str) -> NDArray[np.uint32]:
        """``encode_ordinary`` as a new array (n,)."""
        who = f"{type(self).__name__}.encode_ordinary"
        ids = as_ids(who, "the result", self.encode_ordinary(text), error=TokenizerError)
        for token in ids[(ids < 0) | (ids >= self.vocab_size)][:1].tolist():
            raise TokenizerError(
                f"{who} returned the id {quote(token)}; this vocabulary has ids 0 to {self.vocab_size - 1}"
            )
        return ids.astype(np.uint32)

    def _parts(self, text: str, allowed_special: AllowedSpecial, disallowed_special: AllowedSpecial) -> list[str]:
        """Split into ordinary text, special token, ordinary text, ...; check the arguments of ``encode``."""
        names = {"allowed_special": allowed_special, "disallowed_special": disallowed_special}
        allowed, disallowed = (
            set(self.special_tokens)
            if type(special) is str and special == "all"
            else set(map(join_halves, texts("encode", name, special, TokenizerError)))
            for name, special in names.items()
        )
        if type(disallowed_special) is str:
            disallowed -= allowed
        if not "".join(allowed | disallowed).isascii():
            text = join_halves(text)
        if unknown := (allowed | disallowed) - self.special_tokens.keys():
            raise TokenizerError(
                f"not a special token of this vocabulary: {', '.join(map(quote, sorted(unknown)[:3]))}; "
                f"it has {quote(list(self.special_tokens), 100)[1:-1] or 'none'}"
            )
        if disallowed and (found := _any_of(disallowed).search(text)):
            raise TokenizerError(
                f"the text has the disallowed special token {quote(found[0])} at character {found.start()}; add it to "
                "allowed_special to encode it as one id, or remove it from disallowed_special to encode it as text"
            )
        return _any_of(allowed).split(text) if allowed else [text]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of some ids.

        Raises
            TokenizerError if an id is out of range.
        """
        return "".join(self.stream(ids))

    def _checked(self, ids: Iterable[int]) -> Iterator[int]:
        if isinstance(ids, np.ndarray):
            ids = as_ids("decode", "ids", ids, error=TokenizerError)
        elif isinstance(ids, str | Mapping) or not isinstance(ids, Iterable):
            raise TokenizerError(f"ids must be integers, such as encode returns, not {shown(ids)}")
        for position, token in enumerate(ids):
            if type(token) is not int and (not isinstance(token, int | np.integer) or isinstance(token, bool)):
                raise TokenizerError(f"id {shown(token)} at position {position} is not an integer")
            number = int(token)
            if not 0 <= number < self.vocab_size:
                raise TokenizerError(
                    f"id {quote(number)} at position {position} is out of range: this vocabulary has ids 0 to "
                    f"{self.vocab_size - 1}; use the tokenizer that made the ids"
                )
            yield number

    def save(self, path: str | Path) -> None:
        """Write the vocabulary to ``path``, compressed if its suffix is .gz, .bz2 or .xz.

        A crash leaves either the old file or the new one.
        """
        path = check_path("save", "path", path, TokenizerError)
        write_tokenizer_json(path, self.dumps())

    def dumps(self) -> str:
        """Return the content of the file that ``save`` writes."""
        header = {"format": FORMAT, "version": VERSION, "kind": self.kind}
        return json.dumps(header | self._state(), ensure_ascii=True, separators=(",", ":"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a vocabulary that ``save`` wrote. ``Tokenizer.load`` reads any kind, a subclass only its own.

        Raises
            TokenizerError if the file is damaged, or has another format, version or kind.
        """
        path = check_path("load", "path", path, TokenizerError)
        return cls.from_json(read_tokenizer_json(path), path)

    @classmethod
    def from_json(cls, state: Any, path: str | Path) -> Self:
        """``load`` after the file at ``path`` was parsed."""
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise TokenizerError(f'{path} is not a tokenizer file of npgpt: "format": "{FORMAT}" is missing')
        version = state.get("version")
        if type(version) is not int or version != VERSION:
            raise TokenizerError(f"{path} has version {quote(version)}; this npgpt reads version {VERSION}")
        kinds = {sub.kind: sub for sub in Tokenizer.__subclasses__()}
        kind = kinds.get(state["kind"]) if isinstance(state.get("kind"), str) else None
        if kind is None:
            raise TokenizerError(
                f"{path}: the kind {quote(state.get('kind'))} of tokenizer is unknown; known: {sorted(kinds)}"
            )
        if not issubclass(kind, cls):
            raise TokenizerError(f"{path} is a {kind.__name__}, not a {cls.__name__}; use Tokenizer.load")
        if unknown := state.keys() - {"format", "version", "kind"} - kind.fields:
            raise TokenizerError(f"{path}: the field {quote(min(unknown))} of a {kind.__name__} is unknown")
        with naming(path):
            return kind._from_state(state)


def join_halves(text: str) -> str:
    """Join the two halves of a character (a surrogate pair), as JavaScript leaves them; a lone half stays.

    >>> join_halves("\\ud83d\\ude00") == "😀"
    True
    """
    try:
        text.encode()  # fails only if there is a half; CPython is faster at this than a search for one
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def _any_of(texts: Collection[str]) -> regex.Pattern[str]:
    return regex.compile(f"({'|'.join(map(regex.escape, sorted(texts, key=len, reverse=True)))})")


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn the errors of a file's reader into TokenizerError, with a message that begins with the file's name."""
    try:
        yield
    except NpgptError as error:
        message = str(error)
        raise TokenizerError(message if message.startswith(str(path)) else f"{path}: {message}") from None


def read_tokenizer_json(path: str | Path) -> Any:
    """Return the content of a JSON file, which may be compressed. Raises TokenizerError."""
    with naming(path):
        data = read_bytes(path, MAX_JSON)
        try:
            return parse_json(data, "it")
        except DataError as error:
            raise TokenizerError(f"{path} is not a tokenizer file: {error}") from None


def write_tokenizer_json(path: str | Path, text: str) -> None:
    """Write a file for ``read_tokenizer_json``, compressed as its suffix says.

    Raises
        TokenizerError if it would be too large, or if the text has no UTF-8.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"{path}: {quote(text[error.start])} is half of a surrogate pair; only npgpt's own format can store it"
        ) from None
    if len(data) > MAX_JSON:
        raise TokenizerError(f"{path} would have more than {MAX_JSON >> 20} MiB; use a smaller vocabulary")
    if has_too_many_values(text):
        raise TokenizerError(f"{path} would have more than {MAX_VALUES:,} values; use a smaller vocabulary")
    write_atomically(path, packed_for(path, data))


def vocabulary_from(state: dict[str, Any], name: str) -> list[str]:
    """Return a field of a file's state, checked to be a list of distinct strings."""
    if name not in state:
        raise TokenizerError(f"the field {name!r} is missing")
    words = state[name]
    if not isinstance(words, list):
        raise TokenizerError(f"{name} must be a list of strings, not {quote(words)}")
    for k, word in enumerate(words):
        if not isinstance(word, str):
            raise TokenizerError(f"{name} must be a list of strings, but item {k} is {quote(word)}")
    if len(set(words)) < len(words):
        twice, _ = Counter(words).most_common(1)[0]
        raise TokenizerError(f"{name} has {quote(twice)} more than once")
    return words
