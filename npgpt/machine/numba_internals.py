"""All uses of private names of Numba and llvmlite, which may change in any version.

The other files of this folder use these functions, and otherwise only Numba's documented extension API. So a change in
Numba affects this file alone. Its import raises ImportError if a name is missing.
"""

import hashlib
import inspect
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite
import numba
import numba.core.config as numba_config
import numpy as np
import numpy.ma  # else Numba's first use of np.ma imports it, maybe in two threads at once
from llvmlite import binding, ir
from llvmlite.binding import ffi
from numba.core.base import BaseContext
from numba.core.caching import NullCache
from numba.core.cgutils import alloca_once, for_range, get_or_insert_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.core.event import Listener, register
from numba.core.serialize import dumps
from numba.core.typeconv.castgraph import Conversion
from numba.core.typed_passes import NativeLowering
from numba.core.types import Array, pyobject, unliteral
from numba.core.types import Dispatcher as DispatcherType
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.core.typing.typeof import Purpose, typeof
from numba.extending import lower_builtin

from npgpt.errors import ShapeError
from npgpt.support.forks import LOCKS

for _owner, _names in {
    Dispatcher: (
        *("_compile_for_args", "add_overload", "compile", "get_call_template", "get_compile_result", "get_overload"),
        "typeof_pyval",
    ),
    DispatcherType: ("dispatcher", "get_call_type"),
    CompileResult: ("_reduce", "_rebuild"),
    BaseContext: ("active_code_library", "call_internal_no_propagate", "insert_user_function"),
    JITCodeLibrary: ("_finalize_final_module", "_optimize_final_module"),
}.items():
    if _gone := [name for name in _names if not hasattr(_owner, name)]:
        raise ImportError(f"this version of Numba has no {_owner.__name__}.{_gone[0]}")

_config: Any = numba_config  # its names are set from the environment at import

# LLVM's types and values: I64(3) is a constant, vector_of(I32, 4)(3) a constant with four lanes.

I1, I8, I16, I32, I64, I128 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64, 128))
FLOAT, DOUBLE, VOID = ir.FloatType(), ir.DoubleType(), ir.VoidType()


def vector_of(kind: Any, n: int) -> Any:
    """Return the type of a vector of ``n`` numbers, in one or several registers."""
    return ir.VectorType(kind, n)


def repeat(builder: Any, value: Any, n: int) -> Any:
    """Broadcast a number to ``n`` lanes."""
    nothing = ir.Constant(vector_of(value.type, n), ir.Undefined)
    first = builder.insert_element(nothing, value, I32(0))
    return builder.shuffle_vector(first, nothing, vector_of(I32, n)(0))


def call_llvm(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call one of LLVM's intrinsic functions by its mangled name."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(get_or_insert_function(builder.module, kind, name), args)


def call_address(builder: Any, address: Any, result: Any, *args: Any) -> Any:
    """Call a C function by its address, which is an integer."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), args)


def slot(builder: Any, kind: Any) -> Any:
    """Allocate memory for one value, which LLVM keeps in a register if possible; return its address."""
    return alloca_once(builder, kind)


def array_value(context: Any, builder: Any, kind: Any, address: Any, n: Any) -> Any:
    """Return an array (n,) of this type whose items begin at an address. It owns no memory."""
    from numba.np.arrayobj import populate_array  # 25 ms, and only compilation needs it

    array = context.make_array(kind)(context, builder)
    size = I64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    data = builder.inttoptr(address, array.data.type)
    populate_array(array, data=data, shape=[n], strides=[size], itemsize=size, meminfo=None)
    return array._getvalue()


@contextmanager
def counting(builder: Any, n: Any) -> Iterator[Any]:
    """Emit a loop: code emitted inside ``with counting(builder, n) as k`` runs for k = 0, 1, ..., n - 1."""
    with for_range(builder, n) as loop:
        yield loop.index


def define_operator(symbol: Any, cases: Any, generate: Callable[..., Any]) -> None:
    """Define a Python operator in kernels: for these signatures, ``generate`` emits its code."""
    infer_global(symbol)(type("Cases", (ConcreteTemplate,), {"cases": tuple(cases)}))
    for case in cases:
        lower_builtin(symbol, *case.args)(generate)


COUNTING = "_nrt"  # an option of a jitted function: whether it counts references to arrays, and can make new ones

_compiling = threading.RLock()
LOCKS += [_compiling, global_compiler_lock, ffi.lib._lock]


def compile_once(dispatcher: Any, kinds: tuple[Any, ...]) -> None:
    """Restrict a jitted function to one form, for these types; its first call or ``compile_form()`` compiles it.

    Numba calls ``_compile_for_args`` for arguments of types that are not registered, and passes the arguments,
    unchecked, to the form that it returns. So they are checked here, and their types are registered: later calls are
    direct. Types of arrays that may not be written to are not registered, because Numba takes such arrays of either
    byte order for one type. (Bytes have no order.)
    """

    def compile_form() -> None:
        with _compiling:
            if not dispatcher.overloads:  # no other thread has compiled it
                dispatcher.compile(kinds)

    def form_for(*arguments: Any) -> Any:
        given = [_type_of(argument) for argument in arguments]
        for name, argument, found, kind in zip(names, arguments, given, kinds, strict=True):
            conversion = found and dispatcher.typingctx.can_convert(found, kind)
            if conversion is None or conversion > Conversion.safe:
                raise ShapeError(
                    f"kernel {dispatcher.py_func.__name__}: {name} is {_given(argument)}, expected {_expected(kind)}"
                )
        compile_form()
        form = dispatcher.overloads[kinds].entry_point
        if all(not isinstance(kind, Array) or kind.mutable or kind.dtype.bitwidth == 8 for kind in given):
            types = tuple(kind._code for kind in given)
            with _compiling:
                if types not in registered:  # no other thread has registered them
                    registered.add(types)
                    dispatcher._insert(types, form, False)
        return form

    def typeof_pyval(argument: Any) -> Any:
        try:
            return type_of(argument)
        except NumbaError:  # Numba 0.61 raises for another byte order; later versions return pyobject, too
            return pyobject

    type_of, dispatcher.typeof_pyval = dispatcher.typeof_pyval, typeof_pyval
    registered: set[tuple[int, ...]] = set()
    names = list(inspect.signature(dispatcher.py_func).parameters)
    dispatcher._compile_for_args = form_for
    dispatcher.add_overload = lambda compiled: dispatcher.overloads.update({kinds: compiled})
    dispatcher.compile_form, dispatcher.kinds = compile_form, kinds


def _type_of(argument: Any) -> Any:
    """Return the type of an argument; None if Numba has none, as for numbers in another byte order than the CPU's."""
    try:
        return typeof(argument, Purpose.argument)
    except (NumbaError, ValueError):
        return None


def _given(argument: Any) -> str:
    if not isinstance(argument, np.ndarray):
        return f"of type {type(argument).__name__}"
    flags = argument.flags
    details = [
        f", {words}"
        for words, holds in (
            ("not C-contiguous", not flags.c_contiguous),
            ("read-only", not flags.writeable),
            ("not aligned", not flags.aligned),
        )
        if holds
    ]
    return f"an array {argument.shape} of {argument.dtype}{''.join(details)}"


def _expected(kind: Any) -> str:
    if not isinstance(kind, Array):
        return str(kind)
    order, axes = ", C-contiguous" if kind.layout == "C" else "", f"{kind.ndim} {'axis' if kind.ndim == 1 else 'axes'}"
    wanted = f"{'a writeable' if kind.mutable else 'an'} array of {kind.dtype} with {axes}{order}"
    return wanted if kind.mutable else f"{wanted}; convert it with np.array(..., np.{kind.dtype}, order='C')"


class _LinkedCode(JITCodeLibrary):
    """The LLVM code of a kernel for its callers, which link and optimise it: it has no machine code of its own."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LinkedLowering(NativeLowering):
    _name = "npgpt_linked_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        state.library = _LinkedCode(state.targetctx.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        lowered = state["cr"]
        assert not lowered.env.consts, "a kernel that others call has no objects of Python"  # nor a place for them
        # Numba finds a function's code by the object that Python would call; here the library takes its place.
        state.targetctx.insert_user_function(state.library, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=state.library)
        return True


class _LinkedCompiler(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [
            (_LinkedLowering if step is NativeLowering else step, about) for step, about in manager.passes
        ]
        manager.finalize()
        return [manager]


def link_in_callers(dispatcher: Any, options: Any) -> None:
    """Give a jitted function separate forms for its callers among the kernels; their machine code has it inside.

    Numba alone would compile, optimise and load machine code for every kernel that a kernel calls, and never run it:
    that takes more than half of the time. It would also make a form for each literal argument, such as 12 and 32.
    """
    options = options | {"pipeline_class": _LinkedCompiler, "no_cpython_wrapper": True}
    linked: Any = numba.njit(dispatcher.py_func, **options)
    linked.add_overload = lambda compiled: linked.overloads.update({compiled.signature.args: compiled})

    def of_numbers(kinds: Any) -> tuple[Any, ...]:
        return tuple(map(unliteral, kinds))

    def get_call_template(kinds: Any, named: dict[str, Any]) -> Any:
        return linked.get_call_template(of_numbers(kinds), dict(zip(named, of_numbers(named.values()), strict=True)))

    dispatcher.get_call_template = get_call_template
    dispatcher.get_overload = lambda kinds: linked.get_overload(of_numbers(kinds))
    dispatcher.get_compile_result = linked.get_compile_result


def call_type(kernel: Any, typing_context: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the signature of a kernel, given as an argument's type, for a call with these types."""
    return kernel.get_call_type(typing_context, kinds, {})


def c_function(
    context: Any, builder: Any, kernel: Any, signature: Any, kinds: list[Any], unpack: Callable[..., list[Any]]
) -> Any:
    """Emit a C function that calls a kernel and returns whether it raised.

    Args
        signature: the result of ``call_type``.
        kinds: the types of the C function's parameters.
        unpack: ``unpack(builder, *parameters)`` emits code and returns the arguments for the kernel.
    """
    compiled = kernel.dispatcher.get_compile_result(signature)
    context.active_code_library.add_linking_library(compiled.library)
    name = builder.module.get_unique_name(f"{builder.function.name}.{kernel.dispatcher.py_func.__name__}.chunk")
    function = ir.Function(builder.module, ir.FunctionType(I32, kinds), name=name)
    function.linkage = "internal"
    inside = ir.IRBuilder(function.append_basic_block())
    args = unpack(inside, *function.args)
    status, _ = context.call_internal_no_propagate(inside, compiled.fndesc, signature, args)
    inside.ret(inside.zext(status.is_error, I32))
    return function


def watch_compilation(started: Callable[[str], None], ended: Callable[[], None]) -> None:
    """Call ``started`` with a function's module name before Numba compiles the function, and ``ended`` afterwards."""

    class Watcher(Listener):
        def on_start(self, event: Any) -> None:
            dispatcher = event.data.get("dispatcher")
            started((dispatcher.py_func.__module__ if dispatcher else None) or "")  # code from exec has no module

        def on_end(self, event: Any) -> None:
            ended()

    register("numba:compile", Watcher())


def compiler_versions() -> str:
    """Return the versions of Numba and llvmlite."""
    return f"{numba.__version__} {llvmlite.__version__}"


def keep_code(dispatcher: Any, read: Callable[[str], bytes | None], write: Callable[[str, bytes], None]) -> None:
    """Let ``read`` and ``write`` keep a jitted function's machine code, under a text that names its form and target."""

    class Kept(NullCache):
        def load_overload(self, form: Any, target: Any) -> Any:
            target.refresh()
            code = read(self.key(form, target.codegen()))
            try:
                return code and CompileResult._rebuild(target, *pickle.loads(code))
            except Exception:  # a pickle of other versions: it is compiled again
                return None

        def save_overload(self, form: Any, compiled: Any) -> None:
            if not any(not lifted.can_cache for lifted in compiled.lifted) and not compiled.library.has_dynamic_globals:
                write(self.key(form, compiled.codegen), dumps(compiled._reduce()))

        def key(self, form: Any, generator: Any) -> str:
            function = dispatcher.py_func
            bytecode = hashlib.sha256(function.__code__.co_code).hexdigest()
            place = f"{function.__module__} {function.__qualname__} {function.__code__.co_firstlineno}"
            return f"{place} {bytecode} {form} {generator.magic_tuple()} {sorted(_numbers_used(function, {}).items())}"

    dispatcher._cache = Kept()


def _numbers_used(function: Any, found: dict[str, str]) -> dict[str, str]:
    """Return the global numbers in the code of a function and of the kernels that it calls: a person may patch them."""
    place = f"{function.__module__}.{function.__qualname__}"
    if place not in found:
        found[place] = ""
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, Dispatcher):
                _numbers_used(value.py_func, found)
            elif isinstance(value, int | float | str | tuple | np.generic):
                found[f"{place}.{name}"] = repr(value)
    return found


def jit_disabled() -> bool:
    """Return whether NUMBA_DISABLE_JIT is set, so that functions run in Python."""
    return bool(_config.DISABLE_JIT)


def bounds_checked() -> bool:
    """Return whether NUMBA_BOUNDSCHECK is set, so that an index out of bounds raises."""
    return bool(_config.BOUNDSCHECK)


def cpu_asked_for() -> dict[str, str | None]:
    """Return the values of NUMBA_CPU_NAME and NUMBA_CPU_FEATURES, by these names."""
    return {"NUMBA_CPU_NAME": _config.CPU_NAME, "NUMBA_CPU_FEATURES": _config.CPU_FEATURES}


def host_cpu() -> str:
    """Return LLVM's name of this machine's CPU."""
    return str(binding.get_host_cpu_name())


def machine() -> str:
    """Return the architecture of this process: "x86_64", "aarch64", ..."""
    return str(binding.get_process_triple().split("-")[0])


def llvm_version() -> str:
    """Return the version of the LLVM within llvmlite."""
    return ".".join(map(str, binding.llvm_version_info))


def assembly(code: str) -> str:
    """Compile LLVM code to assembly, for Numba's target CPU."""
    name, features = _config.CPU_NAME, _config.CPU_FEATURES
    if features is None:
        # Numba adds this machine's features to a given CPU name; here a given CPU has only the features of its name.
        features = "" if name else binding.get_host_cpu_features().flatten()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    compiler = target.create_target_machine(name or binding.get_host_cpu_name(), features)
    return str(compiler.emit_assembly(binding.parse_assembly(code)))
