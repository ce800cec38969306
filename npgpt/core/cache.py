"""The arrays that one forward pass saves for the backward pass."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from npgpt.core.param import Array, Param, aligned_empty
from npgpt.core.past import KeyValues
from npgpt.core.shapes import as_ids, check_plain
from npgpt.core.values import flag, shown, whole
from npgpt.errors import DataError, ShapeError


@dataclass
class _Pass:
    """The state that all scopes of one Cache share."""

    training: bool
    record: bool
    trace: bool
    seed: int
    step: int
    first_example: int
    past: KeyValues | list[KeyValues] | None
    documents: Array | None = None
    starts: Array | None = None
    kept: list[tuple["Cache", str]] = field(default_factory=list)  # in the order of the forward pass
    scratch: dict[str, Array] = field(default_factory=dict)
    unwritten: dict[Param, None] = field(default_factory=dict)  # an ordered set


class Cache:
    """The named activations of one forward pass, which the backward pass reads.

    Args
        training: whether dropout is active.
        record: whether arrays are kept for a backward pass, or only their names, to detect a name that is used twice.
        trace: whether the gradients that backward notes are stored.
        seed, step, first_example: together with a layer's path they determine its dropout mask. first_example is the
            index of this batch's first row in the whole batch of the step.
        past: the keys and values of earlier tokens, which the attention layers continue; only with ``record=False``.
            A list has those of each text of a batch: the texts may have different lengths, and need no padding.
        documents: (B, T), the number of each token's document, if a row holds several documents, one after the other:
            0, 0, 0, 1, 2, 2. A token attends to its own document only, whose first token has position 0. So each
            document gets what it gets alone (dropout: other masks). Padding is a document of its own. A layer of a
            user's own that mixes tokens must obey ``starts``; the scores of ``Attention`` need not, it masks them.

    An array returned by forward is valid until ``reset()``, one returned by backward until the next backward.
    """

    def __init__(
        self,
        training: bool = False,
        record: bool = True,
        trace: bool = False,
        seed: int = 0,
        step: int = 0,
        first_example: int = 0,
        past: KeyValues | list[KeyValues] | None = None,
        documents: Array | None = None,
    ) -> None:
        flags = {"training": training, "record": record, "trace": trace}
        numbers = {"seed": seed, "step": step, "first_example": first_example}
        checked: dict[str, Any] = {name: flag("Cache", name, value) for name, value in flags.items()}
        checked |= {name: whole("Cache", name, value) for name, value in numbers.items()}
        texts = past if isinstance(past, list) else [] if past is None else [past]
        if not all(isinstance(text, KeyValues) for text in texts) or (
            texts and (checked["record"] or checked["training"])
        ):
            raise DataError(
                "Cache: past must be a KeyValues, or a list of them; it needs record=False and training=False"
            )
        self._open(_Pass(**checked, past=past), "", "")
        self._set_documents(documents)

    def _set_documents(self, documents: Array | None) -> None:
        if documents is not None and self._shared.past is not None:
            raise DataError("Cache: documents cannot be given with past: rows of documents are not continued")
        documents = None if documents is None else _checked(documents)
        self._shared.documents, self._shared.starts = documents, None if documents is None else _starts_of(documents)

    def _open(self, shared: _Pass, path: str, role: str) -> Self:
        self.path, self.role = path, role
        self._shared = shared
        self._values: dict[str, Array | None] = {}
        self._grads: dict[str, Array] = {}
        self._children: dict[str, Self] = {}
        self._buffers: dict[str, Array] = {}
        self._texts: dict[int, Self] = {}
        return self

    @property
    def training(self) -> bool:
        return self._shared.training

    @property
    def seed(self) -> int:
        return self._shared.seed

    @property
    def step(self) -> int:
        return self._shared.step

    @property
    def first_example(self) -> int:
        return self._shared.first_example

    @property
    def past(self) -> KeyValues | None:
        if isinstance(self._shared.past, list):
            raise DataError("this pass continues several texts; give each one its own cache: for_each_text(...)")
        return self._shared.past

    @property
    def n_past(self) -> int:
        """The number of earlier tokens, which is the position of this pass's first token; of the longest text."""
        past = self._shared.past
        return max((text.length for text in past), default=0) if isinstance(past, list) else past.length if past else 0

    @property
    def documents(self) -> Array | None:
        return self._shared.documents

    def starts(self, B: int, T: int) -> Array | None:
        """Return the place (B, T) in its row where each token's document starts; None if a row is one document."""
        starts = self._shared.starts
        if starts is not None and starts.shape != (B, T):
            raise ShapeError(
                f"Cache: documents has shape {starts.shape}, but this pass has {(B, T)} tokens (B, T); give the "
                "number of each token's document, reset(documents=...), or reset(documents=None)"
            )
        return starts

    def with_past(self, name: str, x: Array) -> Array:
        """Return keys or values (B, H, T, D) behind those of the earlier tokens, if there are any."""
        if self.past is None:
            return x
        memory = self.past.memory(self._full(name), x)
        return memory[:, :, : self.n_past + x.shape[2]]

    def for_each_text(self, forward: Callable[[Array, Self], Array], x: Array) -> Array:
        """Return ``forward(x, cache)``. If this pass continues several texts, each row of x is a pass of its own.

        Layers whose result depends on a token's position, or on earlier tokens, run so; the others take all texts.
        """
        if not isinstance(texts := self._shared.past, list):
            return forward(x, self)
        if len(texts) != len(x):
            raise ShapeError(f"Cache: past has {len(texts)} texts, but the batch has {len(x)} rows")
        found = []
        for b, text in enumerate(texts):
            if b not in self._texts:
                self._texts[b] = copy.copy(self)._open(copy.copy(self._shared), self.path, self.role)
            self._texts[b]._shared.past = text
            found.append(forward(x[b : b + 1], self._texts[b]))
        together: Array = np.concatenate(found)
        return together

    def scope(self, name: str, role: str | None = None) -> Self:
        """Return the child cache of a sub-layer; the same name gives the same child.

        Args
            role: by default the sub-layer's name. Compiled layers whose paths of roles are equal share memory for
                gradients: each backward overwrites the gradient that the last one returned. So two sub-layers may have
                one role only if the parent no longer needs that gradient, as in a model's chain of blocks.
        """
        if name not in self._children:
            if name in self._values:
                raise KeyError(f"{self._full(name)} is a kept array; a sub-layer cannot have its name")
            # An emptied copy of self, so that the children of a subclass are of that subclass too.
            of_role = f"{self.role}.{role or name}"
            self._children[name] = copy.copy(self)._open(self._shared, self._full(name), of_role)
        return self._children[name]

    def keep(self, name: str, array: Array) -> Array:
        """Save an array for backward and return it. Forward must continue with the returned array."""
        if name in self._values:
            raise KeyError(f"{self._full(name)} is already kept: reset() the cache before a second forward pass")
        if name in self._children:
            raise KeyError(f"{self._full(name)} is a sub-layer; a kept array cannot have its name")
        self._values[name] = array if self._shared.record else None
        self._shared.kept.append((self, name))
        return array

    def keep_unlisted(self, name: str, array: Array) -> Array:
        """Save an array for backward as ``keep`` does, but ``walk`` does not yield it: the textbook layer has none."""
        Cache.keep(self, name, array)
        self._shared.kept.pop()
        return array

    def __getitem__(self, name: str) -> Array:
        value = self._values.get(name)
        if value is None:
            why = "the pass ran with record=False" if name in self._values else "run forward with this cache first"
            raise KeyError(f"{self._full(name)} was not kept: {why}")
        return value

    def note(self, name: str, grad: Array) -> Array:
        """Report the gradient of a kept array, summed over all its uses, and return it. A trace stores a copy."""
        value = self[name]
        check_plain(self._full(name), "the gradient", grad)
        if grad.shape != value.shape:
            raise ShapeError(
                f"the gradient of {self._full(name)} has shape {grad.shape}, the array {value.shape}; "
                "dy must have the shape of forward's output"
            )
        if self._shared.trace:
            self._grads[name] = grad.copy()
        return grad

    def buffer(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return uninitialised memory that only backward reads. A name keeps its memory, also after ``reset()``."""
        return _reuse(self._buffers, name, shape, dtype)

    def scratch(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return uninitialised memory that all scopes share. It is valid until the next request for this name."""
        return _reuse(self._shared.scratch, name, shape, dtype)

    def write_first(self, params: Iterable[Param]) -> None:
        """Let the first kernel that uses the gradient of one of these Params overwrite it; later kernels add.

        This saves writing zeros and reading them back. Until ``clear_unwritten``, a gradient may hold numbers of an
        earlier step.
        """
        self._shared.unwritten = dict.fromkeys(params)

    def grad_to_fill(self, param: Param) -> tuple[Array, bool]:
        """Return the gradient of a Param for a kernel that writes all of it, and whether the kernel must add to it."""
        return param.grad, self._shared.unwritten.pop(param, self) is self

    def grad_to_add_to(self, param: Param) -> Array:
        """Return the gradient of a Param for a kernel that adds to a part of it; zeros if nothing has been written."""
        grad, add = self.grad_to_fill(param)
        if not add:
            grad[...] = 0
        return grad

    def clear_unwritten(self) -> None:
        """Set the gradients to zero that no kernel has written since ``write_first``."""
        for param in list(self._shared.unwritten):
            self.grad_to_add_to(param)

    def reset(
        self,
        *,
        training: bool | None = None,
        step: int | None = None,
        first_example: int | None = None,
        documents: Array | EllipsisType | None = ...,
    ) -> Self:
        """Forget the arrays of the pass in every scope. Children, memory, and settings that are not given stay."""
        if self.path:
            raise ValueError(f"scope {self.path!r} cannot be reset alone; reset the whole cache")
        if documents is not ...:
            self._set_documents(documents)
        for scope in self._scopes():
            scope._values.clear()
            scope._grads.clear()
        self._shared.kept.clear()
        if training is not None:
            self._shared.training = training
        if step is not None:
            self._shared.step = step
        if first_example is not None:
            self._shared.first_example = first_example
        return self

    def walk(self) -> Iterator[tuple[str, Array, Array | None]]:
        """Yield (path, value, gradient or None) of each kept array of this scope, in the order of the forward pass."""
        inside = f"{self.path}." if self.path else ""
        for scope, name in self._shared.kept:
            path = scope._full(name)
            value = scope._values[name]
            if path.startswith(inside) and value is not None:
                yield path, value, scope._grads.get(name)

    def _scopes(self) -> Iterator[Self]:
        yield self
        for child in (*self._children.values(), *self._texts.values()):
            yield from child._scopes()

    def _full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _reuse(store: dict[str, Array], name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return a view of the memory under this name. The memory grows when a larger array is requested."""
    dtype, n = np.dtype(dtype), math.prod(shape)
    memory = store.get(name)
    if memory is None or memory.dtype != dtype or memory.size < n:
        memory = store[name] = aligned_empty(n, dtype)
    return memory[:n].reshape(shape)


def _checked(documents: Array) -> Array:
    """Return a copy of the numbers of documents."""
    if not isinstance(documents, np.ndarray) or documents.dtype.kind not in "iu" or documents.ndim != 2:
        raise ShapeError(
            "Cache: documents must be an array (B, T) of integers, the number of each token's document, not "
            f"{shown(documents)}"
        )
    check_plain("Cache", "documents", documents)
    documents = np.array(as_ids("Cache", "documents", documents.reshape(-1))).reshape(documents.shape)
    before, after = documents[:, :-1], documents[:, 1:]
    if (wrong := np.argwhere(after < before)).size:
        b, t = wrong[0].tolist()
        raise DataError(
            f"Cache: documents[{b}, {t + 1}] is {after[b, t]} after {before[b, t]}; the numbers in a row must not "
            "fall, so that no document is in two pieces: 0, 0, 0, 1, 2, 2"
        )
    return documents


def _starts_of(documents: Array) -> Array:
    """Return the place (B, T) in its row where each token's document starts."""
    starts = np.zeros(documents.shape, np.int64)
    starts[:, 1:] = np.where(documents[:, 1:] != documents[:, :-1], np.arange(1, documents.shape[1]), 0)
    found: Array = np.maximum.accumulate(starts, axis=1)
    return found
