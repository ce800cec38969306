"""What threads need and Numba has no words for: atomic reads and writes, a pause, a way to round, calls by address.

An atomic operation here is sequentially consistent: all threads see all of them in one order, and what was written
before one of them is seen by whoever sees it.
"""

from typing import Any

from numba import types

from npgpt.machine.bits import data_pointer, intrinsic
from npgpt.machine.numba_internals import (
    I8,
    I32,
    I64,
    VOID,
    c_function,
    call_address,
    call_llvm,
    call_type,
    machine,
    slot,
)

# What tells a CPU that a loop only waits, where there is such an instruction.
_PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", []),
    "aarch64": ("llvm.aarch64.hint", [I32(1)]),
    "arm64": ("llvm.aarch64.hint", [I32(1)]),
}
_ORDER = "seq_cst"


@intrinsic
def atomic_load(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index]``, of int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(data_pointer(context, builder, signature, args, I64), _ORDER, 8)

    return types.int64(array, types.int64), generate


@intrinsic
def atomic_store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], data_pointer(context, builder, signature, args, I64), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@intrinsic
def atomic_add(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] += value``; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, I64)
        return builder.atomic_rmw("add", pointer, args[2], _ORDER)

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def exchange(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, I64)
        return builder.atomic_rmw("xchg", pointer, args[2], _ORDER)

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def compare_and_swap(typing_context: Any, array: Any, index: Any, expected: Any, value: Any) -> Any:
    """``array[index] = value`` if ``expected`` is there; returns whether it was."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, I64)
        return builder.extract_value(builder.cmpxchg(pointer, args[2], args[3], _ORDER), 1)

    return types.boolean(array, types.int64, types.int64, types.int64), generate


@intrinsic
def pause(typing_context: Any) -> Any:
    """Wait for a few dozen cycles."""
    name, numbers = _PAUSE.get(machine(), (None, []))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if name:
            call_llvm(builder, name, VOID, *numbers)
        return context.get_dummy_value()

    return types.void(), generate


_FLOAT_MODES = {"x86_64": 0x1F80, "aarch64": 0, "arm64": 0}  # round to nearest, subnormal numbers as they are


@intrinsic
def standard_floats(typing_context: Any) -> Any:
    """Let this thread compute as IEEE 754 says; returns how it did before, for ``restore_floats``.

    Libraries set a thread to take subnormal numbers for zero: workers and caller would then give different bits.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        before = _float_mode(builder)
        _set_float_mode(builder, I64(_FLOAT_MODES.get(machine(), 0)))
        return before

    return types.int64(), generate


@intrinsic
def restore_floats(typing_context: Any, mode: Any) -> Any:
    """Compute again as before ``standard_floats``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _set_float_mode(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _float_mode(builder: Any) -> Any:
    if machine() == "x86_64":
        word = slot(builder, I32)
        call_llvm(builder, "llvm.x86.sse.stmxcsr", VOID, builder.bitcast(word, I8.as_pointer()))
        return builder.zext(builder.load(word), I64)
    if machine() in _FLOAT_MODES:
        return call_llvm(builder, "llvm.aarch64.get.fpcr", I64)
    return I64(0)


def _set_float_mode(builder: Any, mode: Any) -> None:
    if machine() == "x86_64":
        word = slot(builder, I32)
        builder.store(builder.trunc(mode, I32), word)
        call_llvm(builder, "llvm.x86.sse.ldmxcsr", VOID, builder.bitcast(word, I8.as_pointer()))
    elif machine() in _FLOAT_MODES:
        call_llvm(builder, "llvm.aarch64.set.fpcr", VOID, mode)


@intrinsic
def call_c(typing_context: Any, address: Any, number: Any, one: Any, other: Any) -> Any:
    """Call a C function (int, word, word) -> int by its address; a word is a number or an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = call_address(builder, args[0], I32, builder.trunc(args[1], I32), *args[2:])
        return builder.sext(result, I64)

    return types.int64(*(types.int64,) * 4), generate


@intrinsic
def call_chunk(typing_context: Any, body: Any, arguments: Any, thread: Any, chunk: Any) -> Any:
    """Call the function that ``job`` made, with the address of its arguments; returns whether it raised."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        memory = builder.inttoptr(args[1], I8.as_pointer())
        return builder.zext(call_address(builder, args[0], I32, memory, args[2], args[3]), I64)

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def job(typing_context: Any, body: Any, arguments: Any) -> Any:
    """Two addresses: of a C function that calls the kernel ``body(thread, chunk, *arguments)``, and of the arguments.

    The arguments lie on the stack of the kernel that says this, and last as long as its call. Numba cannot hand a
    kernel to another one as a value, and keep it on disk; an address that is made anew in each process it can.
    """
    inner = call_type(body, typing_context, (types.int64, types.int64, *arguments.types))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def unpack(inside: Any, memory: Any, thread: Any, chunk: Any) -> list[Any]:
            values = inside.load(inside.bitcast(memory, args[1].type.as_pointer()))
            return [thread, chunk, *(inside.extract_value(values, i) for i in range(len(arguments.types)))]

        function = c_function(context, builder, body, inner, [I8.as_pointer(), I64, I64], unpack)
        with builder.goto_entry_block():
            memory = builder.alloca(args[1].type)
        builder.store(args[1], memory)
        addresses = builder.ptrtoint(function, I64), builder.ptrtoint(memory, I64)
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.int64, 2)(body, arguments), generate
