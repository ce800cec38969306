"""Operations for threads that Numba lacks: atomic reads and writes, a pause, a rounding mode, calls by address.

The atomic operations are sequentially consistent: all threads see them in one order. A thread that sees an operation
also sees all earlier writes of the thread that did it.
"""

from typing import Any

from numba import types

from npgpt.machine.bits import ARRAY, emits, intrinsic, pointer_to
from npgpt.machine.kinds import INT
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

# The instruction that marks a waiting loop, for the CPU architectures that have one.
_ARM_HINT = "llvm.aarch64.hint", I32(1)
_PAUSE = {"x86_64": ("llvm.x86.sse2.pause",), "aarch64": _ARM_HINT, "arm64": _ARM_HINT}
_ORDER = "seq_cst"


@emits(INT, ARRAY, INT)
def atomic_load(builder: Any, array: Any, index: Any) -> Any:
    """Return ``array[index]``, an int64."""
    return builder.load_atomic(pointer_to(builder, array, index, I64), _ORDER, 8)


@emits(types.void, ARRAY, INT, INT)
def atomic_store(builder: Any, array: Any, index: Any, value: Any) -> None:
    """``array[index] = value``."""
    builder.store_atomic(value, pointer_to(builder, array, index, I64), _ORDER, 8)


@emits(types.void, ARRAY, INT, INT)
def publish(builder: Any, array: Any, index: Any, value: Any) -> None:
    """``array[index] = value``, not before this thread's earlier writes, but without waiting until others see it."""
    builder.store_atomic(value, pointer_to(builder, array, index, I64), "release", 8)


@emits(INT, ARRAY, INT, INT)
def atomic_add(builder: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] += value``; return the old value."""
    return builder.atomic_rmw("add", pointer_to(builder, array, index, I64), value, _ORDER)


@emits(INT, ARRAY, INT, INT)
def exchange(builder: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``; return the old value."""
    return builder.atomic_rmw("xchg", pointer_to(builder, array, index, I64), value, _ORDER)


@emits(types.boolean, ARRAY, INT, INT, INT)
def compare_and_swap(builder: Any, array: Any, index: Any, expected: Any, value: Any) -> Any:
    """``array[index] = value`` if the old value is ``expected``; return whether it was."""
    pointer = pointer_to(builder, array, index, I64)
    return builder.extract_value(builder.cmpxchg(pointer, expected, value, _ORDER), 1)


@emits(types.void)
def pause(builder: Any) -> None:
    """Wait for a few dozen cycles."""
    if hint := _PAUSE.get(machine()):
        call_llvm(builder, hint[0], VOID, *hint[1:])


_FLOAT_MODES = {"x86_64": 0x1F80, "aarch64": 0, "arm64": 0}  # round to nearest; keep subnormal numbers


@emits(INT)
def standard_floats(builder: Any) -> Any:
    """Set this thread's float mode to the default of IEEE 754; return the old mode, for ``restore_floats``.

    Some libraries make a thread flush subnormal numbers to zero. Worker and caller would then give different bits.
    """
    before = I64(0)
    if machine() == "x86_64":
        word = slot(builder, I32)
        call_llvm(builder, "llvm.x86.sse.stmxcsr", VOID, builder.bitcast(word, I8.as_pointer()))
        before = builder.zext(builder.load(word), I64)
    elif machine() in _FLOAT_MODES:
        before = call_llvm(builder, "llvm.aarch64.get.fpcr", I64)
    _set_float_mode(builder, I64(_FLOAT_MODES.get(machine(), 0)))
    return before


@emits(types.void, INT)
def restore_floats(builder: Any, mode: Any) -> None:
    """Restore the mode that ``standard_floats`` returned."""
    _set_float_mode(builder, mode)


def _set_float_mode(builder: Any, mode: Any) -> None:
    if machine() == "x86_64":
        word = slot(builder, I32)
        builder.store(builder.trunc(mode, I32), word)
        call_llvm(builder, "llvm.x86.sse.ldmxcsr", VOID, builder.bitcast(word, I8.as_pointer()))
    elif machine() in _FLOAT_MODES:
        call_llvm(builder, "llvm.aarch64.set.fpcr", VOID, mode)


@emits(INT, INT, INT, INT, INT)
def call_c(builder: Any, address: Any, number: Any, one: Any, other: Any) -> Any:
    """Call a C function (int, word, word) -> int by its address; a word is a number or an address."""
    result = call_address(builder, address, I32, builder.trunc(number, I32), one, other)
    return builder.sext(result, I64)


@emits(INT, INT, INT, INT, INT)
def call_chunk(builder: Any, body: Any, arguments: Any, thread: Any, chunk: Any) -> Any:
    """Call the function made by ``job``, with the address of its arguments; return whether it raised."""
    memory = builder.inttoptr(arguments, I8.as_pointer())
    return builder.zext(call_address(builder, body, I32, memory, thread, chunk), I64)


@intrinsic
def job(typing_context: Any, body: Any, arguments: Any) -> Any:
    """Return two addresses: of a C function that calls ``body(thread, chunk, *arguments)``, and of the arguments.

    The arguments are on the stack of the calling kernel, valid until it returns. Numba cannot cache a kernel that takes
    another kernel as a value. Numba can cache a kernel that computes the address again in each process.
    """
    inner = call_type(body, typing_context, (INT, INT, *arguments.types))

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

    return types.UniTuple(INT, 2)(body, arguments), generate
