"""The functions of Wasmtime's C API that the guest uses, by ctypes.

Wasmtime's own Python package takes 80 ms to import, and several times as long for a call as these do. Every pointer is a plain
number here; a unit test compares the table with the package's own declarations.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_bool, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p, string_at

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from typing import Any

_P = c_void_p

FUNCTIONS = {
    "wasm_byte_vec_delete": (None, (_P,)),
    "wasm_config_new": (_P, ()),
    "wasm_engine_new_with_config": (_P, (_P,)),
    "wasm_functype_delete": (None, (_P,)),
    "wasm_functype_new": (_P, (_P, _P)),
    "wasm_trap_delete": (None, (_P,)),
    "wasm_trap_message": (None, (_P, _P)),
    "wasm_valtype_new": (_P, (c_uint8,)),
    "wasm_valtype_vec_new": (None, (_P, c_size_t, _P)),
    "wasmtime_config_epoch_interruption_set": (None, (_P, c_bool)),
    "wasmtime_config_gc_support_set": (None, (_P, c_bool)),
    "wasmtime_config_max_wasm_stack_set": (None, (_P, c_size_t)),
    "wasmtime_config_memory_init_cow_set": (None, (_P, c_bool)),
    "wasmtime_config_native_unwind_info_set": (None, (_P, c_bool)),
    "wasmtime_config_parallel_compilation_set": (None, (_P, c_bool)),
    "wasmtime_config_wasm_exceptions_set": (None, (_P, c_bool)),
    "wasmtime_config_wasm_function_references_set": (None, (_P, c_bool)),
    "wasmtime_config_wasm_gc_set": (None, (_P, c_bool)),
    "wasmtime_config_wasm_memory64_set": (None, (_P, c_bool)),
    "wasmtime_config_wasm_multi_memory_set": (None, (_P, c_bool)),
    "wasmtime_config_wasm_threads_set": (None, (_P, c_bool)),
    "wasmtime_context_set_epoch_deadline": (None, (_P, c_uint64)),
    "wasmtime_engine_increment_epoch": (None, (_P,)),
    "wasmtime_error_delete": (None, (_P,)),
    "wasmtime_error_message": (None, (_P, _P)),
    "wasmtime_error_new": (_P, (_P,)),
    "wasmtime_func_call": (_P, (_P, _P, _P, c_size_t, _P, c_size_t, _P)),
    "wasmtime_global_get": (None, (_P, _P, _P)),
    "wasmtime_instance_export_get": (c_bool, (_P, _P, _P, c_size_t, _P)),
    "wasmtime_instance_pre_instantiate": (_P, (_P, _P, _P, _P)),
    "wasmtime_linker_define_func_unchecked": (_P, (_P, _P, c_size_t, _P, c_size_t, _P, _P, _P, _P)),
    "wasmtime_linker_instantiate_pre": (_P, (_P, _P, _P)),
    "wasmtime_linker_new": (_P, (_P,)),
    "wasmtime_memory_data": (_P, (_P, _P)),
    "wasmtime_memory_data_size": (c_size_t, (_P, _P)),
    "wasmtime_module_deserialize": (_P, (_P, _P, c_size_t, _P)),
    "wasmtime_module_deserialize_file": (_P, (_P, _P, _P)),
    "wasmtime_module_new": (_P, (_P, _P, c_size_t, _P)),
    "wasmtime_module_delete": (None, (_P,)),
    "wasmtime_module_serialize": (_P, (_P, _P)),
    "wasmtime_module_validate": (_P, (_P, _P, c_size_t)),
    "wasmtime_pooling_allocation_config_delete": (None, (_P,)),
    "wasmtime_pooling_allocation_config_linear_memory_keep_resident_set": (None, (_P, c_size_t)),
    "wasmtime_pooling_allocation_config_max_core_instance_size_set": (None, (_P, c_size_t)),
    "wasmtime_pooling_allocation_config_max_memory_size_set": (None, (_P, c_size_t)),
    "wasmtime_pooling_allocation_config_max_tables_per_module_set": (None, (_P, c_uint32)),
    "wasmtime_pooling_allocation_config_new": (_P, ()),
    "wasmtime_pooling_allocation_config_table_elements_set": (None, (_P, c_size_t)),
    "wasmtime_pooling_allocation_config_table_keep_resident_set": (None, (_P, c_size_t)),
    "wasmtime_pooling_allocation_config_total_core_instances_set": (None, (_P, c_uint32)),
    "wasmtime_pooling_allocation_config_total_gc_heaps_set": (None, (_P, c_uint32)),
    "wasmtime_pooling_allocation_config_total_memories_set": (None, (_P, c_uint32)),
    "wasmtime_pooling_allocation_config_total_stacks_set": (None, (_P, c_uint32)),
    "wasmtime_pooling_allocation_config_total_tables_set": (None, (_P, c_uint32)),
    "wasmtime_pooling_allocation_strategy_set": (None, (_P, _P)),
    "wasmtime_store_context": (_P, (_P,)),
    "wasmtime_store_delete": (None, (_P,)),
    "wasmtime_store_epoch_deadline_callback": (None, (_P, _P, _P, _P)),
    "wasmtime_store_limiter": (None, (_P, c_int64, c_int64, c_int64, c_int64, c_int64)),
    "wasmtime_store_new": (_P, (_P, _P, _P)),
    "wasmtime_trap_code": (c_bool, (_P, _P)),
    "wasmtime_trap_new": (_P, (_P, c_size_t)),
    "wasmtime_wat2wasm": (_P, (_P, c_size_t, _P)),
}
"""Name, result, parameters."""

HostFunction = ctypes.CFUNCTYPE(c_size_t, _P, _P, _P, c_size_t)
"""wasmtime_func_unchecked_callback_t: (data, caller, arguments and results, their number) -> trap."""
EpochCallback = ctypes.CFUNCTYPE(c_size_t, _P, _P, ctypes.POINTER(c_uint64), _P)
"""The callback of wasmtime_store_epoch_deadline_callback: (context, data, further ticks, kind) -> error."""

RAW_BYTES = 16
"""Size of wasmtime_val_raw: one argument or result."""
ITEM = 8
"""Where the item is in a wasmtime_extern."""


class Extern(ctypes.Structure):
    """wasmtime_extern: a kind, and at ITEM the function, global or memory."""

    _fields_ = (("kind", c_uint8), ("item", c_uint64 * 3))


class Value(ctypes.Structure):
    """wasmtime_val: a kind (0 is i32, 1 is i64) and the number; with room for what is larger."""

    _fields_ = (("kind", c_uint8), ("number", c_uint64), ("rest", c_uint64 * 2))


class ByteVector(ctypes.Structure):
    """wasm_byte_vec_t."""

    _fields_ = (("size", c_size_t), ("data", _P))


class WasmtimeError(Exception):
    """What Wasmtime refused, in its words."""


class Library:
    """The shared library, loaded; its functions are attributes."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        for name, (result, parameters) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, parameters
            setattr(self, name, function)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def check(self, error: int | None) -> None:
        """Raise WasmtimeError for an error that a function returned; takes ownership of it."""
        if error is not None:
            raise WasmtimeError(self.error_text(error))

    def error_text(self, error: int) -> str:
        """The words of an error, which is deleted."""
        vector = ByteVector()
        self.wasmtime_error_message(error, byref(vector))
        self.wasmtime_error_delete(error)
        return self._take(vector).decode("utf-8", "replace")

    def trap_text(self, trap: int) -> tuple[int | None, str]:
        """A trap's code, if it has one, and its words; it is deleted."""
        code = c_uint8()
        coded = self.wasmtime_trap_code(trap, byref(code))
        vector = ByteVector()
        self.wasm_trap_message(trap, byref(vector))
        self.wasm_trap_delete(trap)
        return code.value if coded else None, self._take(vector).rstrip(b"\0").decode("utf-8", "replace")

    def serialize(self, module: int) -> bytes:
        """A compiled module as ``deserialize`` takes it."""
        vector = ByteVector()
        self.check(self.wasmtime_module_serialize(module, byref(vector)))
        return self._take(vector)

    def compile(self, engine: int, wasm: bytes) -> int:
        """A module from its binary form. Raises WasmtimeError."""
        module = c_void_p()
        self.check(self.wasmtime_module_new(engine, wasm, len(wasm), byref(module)))
        assert module.value is not None
        return module.value

    def parse_text(self, text: bytes) -> bytes:
        """The binary form of a module in WebAssembly's text format. Raises WasmtimeError."""
        vector = ByteVector()
        self.check(self.wasmtime_wat2wasm(text, len(text), byref(vector)))
        return self._take(vector)

    def _take(self, vector: ByteVector) -> bytes:
        data = string_at(vector.data, vector.size)
        self.wasm_byte_vec_delete(byref(vector))
        return data
