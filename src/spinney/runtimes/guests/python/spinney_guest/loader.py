"""From a file in the task directory to a handler: Impuls contract 3.2 and 3.4."""

from __future__ import annotations

import importlib.machinery
import sys
import types

from .values import NO_HANDLER, NOT_LOADED, UNUSABLE, describe

TYPE_CHECKING = False
if TYPE_CHECKING:  # the typing module would only cost start-up time here
    from collections.abc import Callable
    from typing import Any

    Handler = Callable[[Any, Any], Any]


class LoadFailure:
    """A load that failed, as the answer to the calls that wanted it."""

    def __init__(self, outcome: int, message: bytes) -> None:
        self.outcome = outcome
        self.message = message


def load(directory: str, file: str, export_path: str) -> Handler | LoadFailure:
    """The handler, or a LoadFailure. Only a module that ran and raised makes the process unusable."""
    path = f"{directory}/{file}"
    name = file.removesuffix(".py")
    if name in sys.stdlib_module_names or name in sys.modules:
        name = f"task_{name}"  # a function may be called json.handler without taking json away from the others
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader, origin=path)
    module.__file__ = path
    try:
        code = loader.source_to_code(loader.get_data(path), path)
    except MemoryError:
        raise
    except Exception as error:
        return LoadFailure(NOT_LOADED, describe(error))
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)  # noqa: S102
        return _find(module, export_path)
    except (SystemExit, MemoryError):
        raise
    except BaseException as error:
        return LoadFailure(NOT_LOADED | UNUSABLE, describe(error))


def _find(module: types.ModuleType, export_path: str) -> Handler | LoadFailure:
    names = export_path.split(".")
    value: Any = module
    for name in names:
        value = getattr(value, name, None)
    if not callable(value):
        value = getattr(module, names[-1], None)
    return value if callable(value) else LoadFailure(NO_HANDLER, export_path.encode())
