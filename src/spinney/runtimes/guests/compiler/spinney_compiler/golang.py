"""Go: the source becomes a package, and the bridge, which is the program, calls it."""

from __future__ import annotations

import json
import os
import re

from .programs import Crashed, Refused, run

BRIDGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bridge.go")
SOURCE, PACKAGE, PROGRAM, MODULE = "module.go", "function.a", "main.a", "module.wasm"
OPTIONS = ("-pack", "-complete", "-dwarf=false")
TARGET = {"GOOS": "wasip1", "GOARCH": "wasm"}

SIGNATURE = "Module must export func Handle(input string) string"
CRASH = re.compile(r"internal compiler error: (.*)|^(?:panic|fatal error): (.*)", re.MULTILINE)
NOT_FOUND = re.compile(r"could not import (\S+) \(.*\)")


class Go:
    """The compiler and the linker of the kit, with the standard library as set-up has compiled it."""

    def __init__(self, kit: str) -> None:
        with open(os.path.join(kit, "kit.json")) as file:
            self.version: str = json.load(file)["versions"]
        self._compile, self._link = os.path.join(kit, "compile"), os.path.join(kit, "link")
        packages = dict(_find_packages(os.path.join(kit, "std")))
        self._for_functions = _format({name: file for name, file in packages.items() if _is_public(name)})
        self._for_bridge = _format({**packages, "function": PACKAGE})

    def build(self, source: bytes, directory: str) -> str:
        """Raises Refused, Crashed."""
        with open(os.path.join(directory, SOURCE), "wb") as file:
            file.write(source)
        trim = f"-trimpath={directory};{os.path.dirname(BRIDGE)}"
        for packages in ("for_functions", "for_bridge"):
            with open(os.path.join(directory, packages), "w") as text:
                text.write(getattr(self, f"_{packages}"))
        compiler = (self._compile, *OPTIONS, trim)
        self._run(*compiler, "-p=function", "-importcfg=for_functions", f"-o={PACKAGE}", SOURCE, directory=directory)
        self._run(*compiler, "-p=main", "-importcfg=for_bridge", f"-o={PROGRAM}", BRIDGE, directory=directory)
        linker = (self._link, "-buildmode=c-shared", "-s", "-w", "-buildid=", "-importcfg=for_bridge")
        self._run(*linker, f"-o={MODULE}", PROGRAM, directory=directory)
        return os.path.join(directory, MODULE)

    def _run(self, *arguments: str, directory: str) -> None:
        code, text = run(arguments, directory, **TARGET)
        if code == 0:
            return
        crash = CRASH.search(text)
        if crash is not None:
            raise Crashed(next(filter(None, crash.groups()), "unknown"))
        if arguments[-1] == BRIDGE:
            raise Refused(SIGNATURE)
        text = NOT_FOUND.sub(r"package \1 is not in std", text)
        raise Refused(text.replace(f"{directory}/", "").replace(f"{self._link}: ", ""))


def _find_packages(std: str) -> list[tuple[str, str]]:
    """Import path and file of every package below a directory."""
    found = []
    for directory, _, files in os.walk(std):
        for file in files:
            path = os.path.join(directory, file)
            found.append((os.path.relpath(path, std).removesuffix(".a"), path))
    return sorted(found)


def _is_public(package: str) -> bool:
    parts = package.split("/")
    return "internal" not in parts and parts[0] != "vendor"


def _format(packages: dict[str, str]) -> str:
    """As Go's compiler and linker read it."""
    return "".join(f"packagefile {name}={file}\n" for name, file in packages.items())
