"""npm packages that guests are made of, pinned with all they need by a lock file beside the guest.

npm itself fetches them: it knows the machine's registry, proxy and certificates, and checks the hashes of the lock file. It
comes out of the wheel that brings Node.js, and is thrown away after use, so that the machine needs neither. Packages live in
``<sys.prefix>/lib/spinney/runtimes/<name>/node_modules``, readable by all, from where they are bind-mounted into sandboxes.

To add some is a ``package.json`` and ``package-lock.json`` in a guest's directory and its name in ``PACKAGES``. Uses only the
standard library (and ``spinney.errors``), because set-up runs it early.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinney.errors import Invalid, Unavailable, Unsupported
from spinney.runtimes import install as toolchains

GUESTS = Path(__file__).with_name("guests")
MANIFEST = ("package.json", "package-lock.json")
LOCK = MANIFEST[-1]
GLOBAL_CONFIGS = ("/usr/etc/npmrc", "/etc/npmrc")
"""Where the machine's own npm looks for its settings, depending on who built it."""

NPM = dataclasses.replace(toolchains.get("node22"), name="npm", parts=("bin/node", "lib/node_modules/npm/"))


@dataclass(frozen=True)
class Packages:
    """What one guest needs of npm. ``unused``: parts of the packages that are not kept, for they are large."""

    name: str
    unused: tuple[str, ...] = ()

    @property
    def manifest(self) -> Path:
        """The directory with ``package.json`` and the lock file."""
        return GUESTS / self.name


PACKAGES = (Packages("assemblyscript", unused=("binaryen/bin",)),)

Fetch = Callable[[Path], None]
"""Fills ``node_modules`` in a directory that has the manifest. Raises Unavailable."""


def names() -> tuple[str, ...]:
    return tuple(packages.name for packages in PACKAGES)


def find(name: str, *, root: Path = toolchains.ROOT) -> Path | None:
    """The directory that holds ``node_modules``; None unless it was brought by the lock file of this version of Spinney."""
    place = root / name
    try:
        current = (place / LOCK).read_bytes() == (_get(name).manifest / LOCK).read_bytes()
    except FileNotFoundError:
        return None
    return place if current else None


def install(
    wanted: Collection[str] = (),
    *,
    root: Path = toolchains.ROOT,
    fetch: Fetch | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Bring what ``find`` does not find; no names means all. Idempotent, atomic for each one.

    Raises Invalid for an unknown name, Unsupported when npm is not made for this machine, Unavailable.
    """
    found: dict[str, Path] = {}
    for packages in [_get(name) for name in wanted] or PACKAGES:
        place = find(packages.name, root=root)
        if place is None:
            say(f"{packages.name}: fetching npm packages")
            place = _bring(packages, root, fetch)
            say(f"{packages.name}: installed in {place}")
        found[packages.name] = place
    return found


def _get(name: str) -> Packages:
    for packages in PACKAGES:
        if packages.name == name:
            return packages
    raise Invalid(f"no npm packages '{name}'; there are {', '.join(names())}")


def _bring(packages: Packages, root: Path, fetch: Fetch | None) -> Path:
    """Fetch beside the final place, and only then move it there by one rename."""
    target = root / packages.name
    with toolchains.workspace(root) as work:
        if find(packages.name, root=root) is not None:  # brought by another process while this one waited
            return target
        made = work / packages.name
        made.mkdir()
        for file in MANIFEST:
            shutil.copyfile(packages.manifest / file, made / file)
        (fetch or _Npm(work))(made)
        for part in packages.unused:
            shutil.rmtree(made / "node_modules" / part, ignore_errors=True)
        toolchains.open_to_all(made)
        if target.exists():
            target.rename(work / "old")
        made.rename(target)
    return target


class _Npm:
    """npm out of its wheel, unpacked in a scratch directory."""

    def __init__(self, work: Path) -> None:
        if os.uname().machine not in NPM.hashes:
            raise Unsupported(f"npm: no build for {os.uname().machine}")
        self._home = work / "npm"
        self._cache = work / "cache"
        toolchains.unpack(NPM, toolchains.download_wheel(NPM, work), self._home)

    def __call__(self, directory: Path) -> None:
        command = [str(self._home / "bin/node"), str(self._home / "lib/node_modules/npm/bin/npm-cli.js"), "ci"]
        command += ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--cache", str(self._cache)]
        settings = [path for path in GLOBAL_CONFIGS if os.path.exists(path)]
        if settings and "NPM_CONFIG_GLOBALCONFIG" not in os.environ:
            command += ["--globalconfig", settings[0]]
        answer = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if answer.returncode != 0:
            errors = [line for line in answer.stderr.splitlines() if line.startswith("npm error")]
            raise Unavailable(f"{directory.name}: could not fetch its packages: {(errors or ['npm failed'])[0]}")


def main(wanted: Sequence[str]) -> int:
    """``python -m spinney.runtimes.packages [NAME...]``: install what is missing, silent when nothing is; the exit code.

    A machine that npm is not made for goes without.
    """
    try:
        install(wanted, say=lambda line: print(line, file=sys.stderr, flush=True))
    except (Invalid, Unsupported, Unavailable) as error:
        print(f"spinney: {error.message}", file=sys.stderr)
        return 0 if isinstance(error, Unsupported) and not wanted else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
