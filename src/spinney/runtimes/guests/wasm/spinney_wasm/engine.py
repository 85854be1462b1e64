"""How WebAssembly is compiled and kept in memory. Part of the key of what was compiled: another engine cannot use it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # only for annotations: imports cost start-up time here
    from .capi import Library

STACK_BYTES = 1 << 20
"""What WebAssembly code may use of the main thread's stack."""
KEPT_BYTES = 1 << 20
"""Of an instance's memory so much is wiped for the next; the rest is given back, which costs a system call and page faults.

json-as touches a megabyte before it does anything: with 64 KiB kept a call of its sum took 430 microseconds, with this 180.
"""
TABLE_ELEMENTS_MAX = 200_000
TABLES_MAX = 8
INSTANCE_BYTES_MAX = 16 << 20

FEATURES_OFF = ("gc", "threads", "memory64", "multi_memory", "exceptions", "function_references")
"""What no compiler here needs: ``instructions.py`` knows the rest. Without a collector there is no externref either."""


def make_engine(library: Library) -> int:
    """An engine for one instance at a time, at a place in memory that is reserved once."""
    config = library.wasm_config_new()
    library.wasmtime_config_epoch_interruption_set(config, True)
    library.wasmtime_config_max_wasm_stack_set(config, STACK_BYTES)
    library.wasmtime_config_memory_init_cow_set(config, True)
    library.wasmtime_config_native_unwind_info_set(config, False)
    library.wasmtime_config_parallel_compilation_set(config, False)
    library.wasmtime_config_gc_support_set(config, False)
    for feature in FEATURES_OFF:
        getattr(library, f"wasmtime_config_wasm_{feature}_set")(config, False)
    pool = library.wasmtime_pooling_allocation_config_new()
    settings = {
        "total_core_instances": 1,
        "total_memories": 1,
        "total_tables": TABLES_MAX,
        "total_stacks": 0,
        "total_gc_heaps": 0,
        "max_tables_per_module": TABLES_MAX,
        "table_elements": TABLE_ELEMENTS_MAX,
        "max_core_instance_size": INSTANCE_BYTES_MAX,
        "max_memory_size": 1 << 32,  # a stem does not know its function's limit yet: the store's limiter does
        "linear_memory_keep_resident": KEPT_BYTES,
        "table_keep_resident": KEPT_BYTES,
    }
    for name, value in settings.items():
        getattr(library, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    library.wasmtime_pooling_allocation_strategy_set(config, pool)
    library.wasmtime_pooling_allocation_config_delete(pool)
    engine: int = library.wasm_engine_new_with_config(config)
    return engine
