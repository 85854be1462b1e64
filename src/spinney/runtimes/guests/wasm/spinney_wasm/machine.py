"""One module, run in a new instance for each call; and how an execution may fail (NIL contract 3.6 and 3.7)."""

from __future__ import annotations

from ctypes import byref, c_double, c_uint32, c_uint64, c_void_p, cast, memmove, string_at

from .capi import ITEM, RAW_BYTES, Extern, HostFunction, Value
from .code import GROWN, PAGE_BYTES, START

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from collections.abc import Callable
    from typing import Any, NoReturn

    from .capi import Library
    from .deadline import Deadline

OUT_OF_BOUNDS, UNREACHABLE = 1, 9
TRAP = "wasm trap: "
MESSAGE_MAX = 4096
"""Characters of a message that are shown."""
STACK = b"__stack_pointer"
MEMORY_REFUSED = "memory minimum size"
FUNCTION, GLOBAL, MEMORY = 0, 1, 3
"""wasmtime_extern_kind_t."""
KINDS = "iIfF"
"""i32, i64, f32, f64 as wasm_valkind_t numbers them."""
READERS: dict[str, Any] = {"i": c_uint32, "I": c_uint64, "F": c_double}
TABLE_ELEMENTS_MAX = 1 << 20


class Failed(Exception):
    """The end of an execution; the text is what its caller is told."""


class Ended(Exception):
    """Raised by a host function: the execution ends here and fails, for a reason that has been noted."""


class Machine:
    """What one function's calls have in common; one at a time runs in it.

    memory_mb: the most linear memory an instance may have.
    """

    def __init__(self, library: Library, engine: int, deadline: Deadline, memory_mb: int) -> None:
        self._library = library
        self._engine = engine
        self.deadline = deadline
        self._memory_mb = memory_mb
        self._linker = library.wasmtime_linker_new(engine)
        self._callbacks: list[Any] = []
        self._pre = c_void_p()
        self._trap = c_void_p()
        self._trap_at = byref(self._trap)
        self._instance = (c_uint64 * 2)()
        self._export, self._memory = Extern(), Extern()
        self._export_at, self._item_at = byref(self._export), byref(self._export, ITEM)
        self._memory_at = byref(self._memory, ITEM)
        self._arguments, self._result = (Value * 2)(), Value()
        self._result_at = byref(self._result)
        self._context = 0
        self._timeout_s = 0.0
        self._fault: BaseException | None = None
        self._aborted: str | None = None
        self._exited: str | None = None
        self.last_words: str | None = None
        """What a language's runtime has said before it gave up, if it has; host functions listen to it."""

    # -- once ----------------------------------------------------------------------------------------------------------

    def define(self, module: str, name: str, parameters: str, result: str, function: Callable[..., Any]) -> None:
        """Offer a host function. ``parameters`` and ``result`` are letters: i, I and F for i32, i64 and f64.

        It gets integers as unsigned numbers, and may raise Ended.
        """
        callback = HostFunction(self._wrap(parameters, result, function))
        self._callbacks.append(callback)
        kind = self._function_type(parameters, result)
        names = (module.encode(), name.encode())
        error = self._library.wasmtime_linker_define_func_unchecked(
            self._linker, names[0], len(names[0]), names[1], len(names[1]), kind, cast(callback, c_void_p), None, None
        )
        self._library.wasm_functype_delete(kind)
        self._library.check(error)

    def link(self, module: int) -> None:
        """The module to run. Raises WasmtimeError when it imports what is not defined."""
        self._library.check(self._library.wasmtime_linker_instantiate_pre(self._linker, module, byref(self._pre)))

    def _function_type(self, parameters: str, result: str) -> int:
        vectors = []
        for letters in (parameters, result):
            kinds = (c_void_p * len(letters))(*(self._library.wasm_valtype_new(KINDS.index(letter)) for letter in letters))
            vector = (c_uint64 * 2)()
            self._library.wasm_valtype_vec_new(vector, len(letters), kinds)
            vectors.append(vector)
        kind: int = self._library.wasm_functype_new(*vectors)
        return kind

    def _wrap(self, parameters: str, result: str, function: Callable[..., Any]) -> Callable[..., int]:
        readers = [(RAW_BYTES * index, READERS[letter]) for index, letter in enumerate(parameters)]
        write = READERS.get(result)

        def call(_data: int, _caller: int, values: int, _count: int) -> int:
            try:
                answer = function(*[reader.from_address(values + at).value for at, reader in readers])
                if write is not None:
                    write.from_address(values).value = answer
                return 0
            except Ended:
                pass
            except BaseException as error:  # nothing may be raised through foreign code: ``_end`` raises it
                self._fault = error
            ended: int = self._library.wasmtime_trap_new(b"ended", 5)
            return ended

        return call

    # -- for each call -------------------------------------------------------------------------------------------------

    def run(self, work: Callable[[bytes], bytes], body: bytes, timeout_s: float) -> bytes:
        """What ``work`` makes of a body with a new instance, which is gone afterwards. Raises Failed."""
        library = self._library
        store = library.wasmtime_store_new(self._engine, None, None)
        self._context = library.wasmtime_store_context(store)
        self._timeout_s = timeout_s
        self._fault = self._aborted = self._exited = self.last_words = None
        library.wasmtime_store_limiter(store, self._memory_mb << 20, TABLE_ELEMENTS_MAX, 1, -1, 1)
        self.deadline.start(store, self._context, timeout_s)
        try:
            self._instantiate()
            return work(body)
        finally:
            self.deadline.stop()
            library.wasmtime_store_delete(store)

    def _instantiate(self) -> None:
        library = self._library
        self._instance[0] = 0  # of no store, until there is an instance
        error = library.wasmtime_instance_pre_instantiate(self._pre, self._context, self._instance, self._trap_at)
        if error is not None or self._trap:
            self._end(error)
        if not self._find(b"memory", self._memory) or self._memory.kind != MEMORY:
            raise Failed("The module exports no memory")
        self.call_if_there(START)

    def call_if_there(self, name: bytes) -> None:
        """Call an export without arguments and results, if the module has it."""
        if self._find(name, self._export):
            self._call(0, 0)

    def call(self, name: bytes, *arguments: int, results: int = 1) -> int:
        """Call an exported function with i32s; its result, if it has one, as an unsigned number. Raises Failed."""
        if not self._find(name, self._export) or self._export.kind != FUNCTION:
            raise Failed(f"The module exports no function {name.decode()}")
        for value, argument in zip(self._arguments, arguments, strict=False):
            value.number = argument
        return self._call(len(arguments), results)

    def _call(self, arguments: int, results: int) -> int:
        error = self._library.wasmtime_func_call(
            self._context, self._item_at, self._arguments, arguments, self._result_at, results, self._trap_at
        )
        if error is not None or self._trap:
            self._end(error)
        number: int = self._result.number
        return number if self._result.kind else number & 0xFFFF_FFFF

    def _find(self, name: bytes, found: Extern) -> bool:
        is_there: bool = self._library.wasmtime_instance_export_get(self._context, self._instance, name, len(name), byref(found))
        return is_there

    # -- memory --------------------------------------------------------------------------------------------------------

    @property
    def memory_bytes(self) -> int:
        """How large the instance's memory is now."""
        size: int = self._library.wasmtime_memory_data_size(self._context, self._memory_at)
        return size

    def read(self, at: int, size: int) -> bytes | None:
        """Bytes of the instance's memory, as large as it is now; None when they are not all in it."""
        if at < 0 or at + size > self.memory_bytes:
            return None
        return string_at(self._library.wasmtime_memory_data(self._context, self._memory_at) + at, size)

    def write(self, at: int, data: bytes) -> None:
        """Raises Failed, as a store by the code itself would, when it does not fit there."""
        if at + len(data) > self.memory_bytes:
            raise Failed(trap("out of bounds memory access"))
        memmove(self._library.wasmtime_memory_data(self._context, self._memory_at) + at, data, len(data))

    # -- ends ----------------------------------------------------------------------------------------------------------

    def abort(self, reason: str) -> NoReturn:
        """For host functions: the code cannot go on, and this is what its caller is told."""
        self._aborted = reason
        raise Ended

    def exit(self, code: int) -> NoReturn:
        """For host functions: the code has ended its process, maybe for want of memory."""
        self._exited = f"exit status {code}"
        raise Ended

    def _end(self, error: int | None) -> NoReturn:
        """Why what was called did not return: time, then an abort, then memory, then an exit or a trap. Raises Failed."""
        ended_by, self._trap.value = self._trap.value, None
        if self._fault is not None:
            raise self._fault
        code, text = (None, self._library.error_text(error)) if error is not None else self._library.trap_text(ended_by or 0)
        if self.deadline.passed:
            raise Failed(f"Execution timed out after {self._timeout_s:g} seconds")
        if self._aborted is not None:
            raise Failed(self._aborted)
        gave_up = code == UNREACHABLE or self._exited is not None
        if text.startswith(MEMORY_REFUSED) or (gave_up and self._wanted_too_much()):
            raise Failed(f"Memory limit exceeded: {self._memory_mb} MiB")
        if gave_up and (reason := self.last_words or self._exited):
            raise Failed(runtime_error(reason))
        if code == OUT_OF_BOUNDS and self._left_its_stack():
            raise Failed(trap("call stack exhausted"))
        raise Failed(trap("unreachable" if code == UNREACHABLE else _reason(text)))

    def _wanted_too_much(self) -> bool:
        """Whether the code has asked for more memory than it may have."""
        if not self._find(GROWN, self._export):
            return False
        value = Value()
        self._library.wasmtime_global_get(self._context, self._item_at, byref(value))
        wanted_bytes: int = value.number * PAGE_BYTES
        return wanted_bytes > self._memory_mb << 20

    def _left_its_stack(self) -> bool:
        """Whether a stack that the code has in its memory, at the beginning of it, was too small: its pointer is below zero."""
        if not self._instance[0] or not self._find(STACK, self._export) or self._export.kind != GLOBAL:
            return False
        value = Value()
        self._library.wasmtime_global_get(self._context, self._item_at, byref(value))
        pointer: int = value.number & 0xFFFF_FFFF
        return pointer > self.memory_bytes


def runtime_error(text: str | None) -> str:
    """The message for a failure that the code itself describes, or does not."""
    return f"Runtime error: {text or 'abort'}"


def trap(text: str) -> str:
    """The message for a trap."""
    return f"WASM trap: {text}"


def _reason(text: str) -> str:
    """The engine's words for a trap, without the backtrace in front of them."""
    return text.rpartition(TRAP)[2].strip() if TRAP in text else text.splitlines()[0]
