"""What threads need and Numba has no words for: atomic reads and writes, a pause, a way to round, calls by address.

An atomic operation here is sequentially consistent: all threads see all of them in one order, and what was written
before one of them is seen by whoever sees it.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils

from npgpt.machine.bits import data_pointer, intrinsic

_I8, _I32, _I64 = (ir.IntType(bits) for bits in (8, 32, 64))
# What tells a CPU that a loop only waits, where there is such an instruction.
_PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", []),
    "aarch64": ("llvm.aarch64.hint", [_I32(1)]),
    "arm64": ("llvm.aarch64.hint", [_I32(1)]),
}
_ORDER = "seq_cst"


@intrinsic
def atomic_load(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index]``, of int64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(data_pointer(context, builder, signature, args, _I64), _ORDER, 8)

    return types.int64(array, types.int64), generate


@intrinsic
def atomic_store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[2], data_pointer(context, builder, signature, args, _I64), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@intrinsic
def atomic_add(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] += value``; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _I64)
        return builder.atomic_rmw("add", pointer, args[2], _ORDER)

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def exchange(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``; returns what was there before."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _I64)
        return builder.atomic_rmw("xchg", pointer, args[2], _ORDER)

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def compare_and_swap(typing_context: Any, array: Any, index: Any, expected: Any, value: Any) -> Any:
    """``array[index] = value`` if ``expected`` is there; returns whether it was."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = data_pointer(context, builder, signature, args, _I64)
        return builder.extract_value(builder.cmpxchg(pointer, args[2], args[3], _ORDER), 1)

    return types.boolean(array, types.int64, types.int64, types.int64), generate


@intrinsic
def pause(typing_context: Any) -> Any:
    """Wait for a few dozen cycles."""
    name, numbers = _PAUSE.get(_machine(), (None, []))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if name:
            _call_llvm(builder, name, ir.VoidType(), *numbers)
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
        _set_float_mode(builder, _I64(_FLOAT_MODES.get(_machine(), 0)))
        return before

    return types.int64(), generate


@intrinsic
def restore_floats(typing_context: Any, mode: Any) -> Any:
    """Compute again as before ``standard_floats``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _set_float_mode(builder, args[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _machine() -> str:
    return str(binding.get_process_triple().split("-")[0])


def _float_mode(builder: Any) -> Any:
    if _machine() == "x86_64":
        slot = cgutils.alloca_once(builder, _I32)
        _call_llvm(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(slot, _I8.as_pointer()))
        return builder.zext(builder.load(slot), _I64)
    if _machine() in _FLOAT_MODES:
        return _call_llvm(builder, "llvm.aarch64.get.fpcr", _I64)
    return _I64(0)


def _set_float_mode(builder: Any, mode: Any) -> None:
    if _machine() == "x86_64":
        slot = cgutils.alloca_once(builder, _I32)
        builder.store(builder.trunc(mode, _I32), slot)
        _call_llvm(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(slot, _I8.as_pointer()))
    elif _machine() in _FLOAT_MODES:
        _call_llvm(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), mode)


def _call_llvm(builder: Any, name: str, result: Any, *args: Any) -> Any:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


@intrinsic
def call_c(typing_context: Any, address: Any, number: Any, one: Any, other: Any) -> Any:
    """Call a C function (int, word, word) -> int by its address; a word is a number or an address."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_I32, [_I32, _I64, _I64])
        function = builder.inttoptr(args[0], kind.as_pointer())
        return builder.sext(builder.call(function, [builder.trunc(args[1], _I32), *args[2:]]), _I64)

    return types.int64(*(types.int64,) * 4), generate


_CHUNK = ir.FunctionType(_I32, [_I8.as_pointer(), _I64, _I64])  # arguments, thread, chunk -> 1 if it raised


@intrinsic
def call_chunk(typing_context: Any, body: Any, arguments: Any, thread: Any, chunk: Any) -> Any:
    """Call what ``address_of_body`` made; returns whether it raised."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], _CHUNK.as_pointer())
        raised = builder.call(function, [builder.inttoptr(args[1], _I8.as_pointer()), args[2], args[3]])
        return builder.zext(raised, _I64)

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def job(typing_context: Any, body: Any, arguments: Any) -> Any:
    """Two addresses: of a C function that calls the kernel ``body(thread, chunk, *arguments)``, and of the arguments.

    The arguments lie on the stack of the kernel that says this, and last as long as its call. Numba cannot hand a
    kernel to another one as a value, and keep it on disk; an address that is made anew in each process it can.
    """
    kinds = (types.int64, types.int64, *arguments.types)
    inner = body.get_call_type(typing_context, kinds, {})

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        compiled = body.dispatcher.get_compile_result(inner)
        context.active_code_library.add_linking_library(compiled.library)
        name = f"{builder.function.name}.{body.dispatcher.py_func.__name__}.chunk"
        function = ir.Function(builder.module, _CHUNK, name=builder.module.get_unique_name(name))
        function.linkage = "internal"
        inside = ir.IRBuilder(function.append_basic_block())
        memory, thread, chunk = function.args
        values = inside.load(inside.bitcast(memory, args[1].type.as_pointer()))
        unpacked = [inside.extract_value(values, i) for i in range(len(arguments.types))]
        status, _ = context.call_internal_no_propagate(inside, compiled.fndesc, inner, [thread, chunk, *unpacked])
        inside.ret(inside.zext(status.is_error, _I32))
        with builder.goto_entry_block():
            slot = builder.alloca(args[1].type)
        builder.store(args[1], slot)
        addresses = builder.ptrtoint(function, _I64), builder.ptrtoint(slot, _I64)
        return context.make_tuple(builder, signature.return_type, addresses)

    return types.UniTuple(types.int64, 2)(body, arguments), generate
