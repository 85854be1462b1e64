"""npm packages of guests: found, brought, repaired; with a fetch that makes them here, so that no network is needed."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from spinney.errors import Invalid, Unavailable
from spinney.runtimes import packages
from spinney.runtimes.packages import PACKAGES, find, install


class Shop:
    """A fetch that makes packages itself, and counts."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def __call__(self, directory: Path) -> None:
        self.fetched.append(directory.name)
        assert sorted(file.name for file in directory.iterdir()) == ["package-lock.json", "package.json"]
        for part in ("wanted/index.js", "binaryen/bin/huge"):
            file = directory / "node_modules" / part
            file.parent.mkdir(parents=True)
            file.write_text("x")


def test_brings_packages_once(tmp_path: Path) -> None:
    shop, said = Shop(), list[str]()
    assert find("assemblyscript", root=tmp_path) is None
    first = install(root=tmp_path, fetch=shop, say=said.append)
    assert first == install(root=tmp_path, fetch=shop) == {"assemblyscript": tmp_path / "assemblyscript"}
    assert find("assemblyscript", root=tmp_path) == tmp_path / "assemblyscript"
    assert shop.fetched == ["assemblyscript"]
    assert [line.split(":")[0] for line in said] == ["assemblyscript"] * 2


def test_another_lock_file_brings_them_anew(tmp_path: Path) -> None:
    shop = Shop()
    place = install(root=tmp_path, fetch=shop)["assemblyscript"]
    (place / "package-lock.json").write_text("{}")
    assert find("assemblyscript", root=tmp_path) is None
    install(root=tmp_path, fetch=shop)
    assert shop.fetched == ["assemblyscript"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "assemblyscript"]


def test_what_is_kept_is_readable_by_all(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        place = install(root=tmp_path, fetch=Shop())["assemblyscript"]
    finally:
        os.umask(before)
    modes = {path.relative_to(place).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*")}
    assert modes["node_modules/wanted/index.js"] == 0o644
    assert modes["node_modules/wanted"] == stat.S_IMODE(place.stat().st_mode) == 0o755
    assert "node_modules/binaryen/bin" not in modes


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "node_modules").mkdir()
        raise Unavailable("no network")

    with pytest.raises(Unavailable, match="no network"):
        install(root=tmp_path, fetch=fail)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_an_unknown_name_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no npm packages 'cobol'; there are assemblyscript"):
        install(["cobol"], root=tmp_path)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert packages.main(["cobol"]) == 1
    assert capsys.readouterr().err.startswith("spinney: no npm packages 'cobol'")


@pytest.mark.parametrize("name", packages.names())
def test_every_package_is_pinned_by_hash_and_names_no_host(name: str) -> None:
    text = next(known for known in PACKAGES if known.name == name).manifest.joinpath("package-lock.json").read_text()
    locked = {path: package for path, package in json.loads(text)["packages"].items() if path}
    assert all(re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"]) for package in locked.values())
    assert not any("resolved" in package for package in locked.values())


@pytest.mark.parametrize("name", packages.names())
def test_what_setup_installed_is_there(name: str) -> None:
    place = find(name)
    assert place is not None, "make setup installs it"
    locked = json.loads((place / "package-lock.json").read_bytes())["packages"]
    for path, package in locked.items():
        if path:
            assert json.loads((place / path / "package.json").read_bytes())["version"] == package["version"]
