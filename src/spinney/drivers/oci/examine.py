"""What an operator should know about the isolation that this machine gives: shown by ``spinney doctor`` and at the start."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from pathlib import Path

from spinney.drivers.oci.cgroups import Cgroups

FIXES = ("CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881")
FIRST_FIXED = {(1, 2): 8, (1, 3): 3}
"""The patch releases of November 2025; everything from 1.4.0-rc.3 on has the fixes as well."""

CHANGELOG = Path("/usr/share/doc/runc/changelog.Debian.gz")


def examine(runtime: str, cgroups: Cgroups, *, network: bool) -> tuple[str, ...]:
    """Notes on weaknesses and missing parts; () when there is nothing to say.

    runtime: absolute path of the OCI runtime. network: whether sandboxes can have one.
    """
    notes = [*_examine_runtime(runtime), *_examine_cgroups(cgroups)]
    if os.geteuid() != 0:
        notes.append("without root: sandboxes run as the server's user or its subordinate ids, and have no network")
    elif not network:
        notes.append("no network for sandboxes: apt-get install iproute2 nftables util-linux")
    return tuple(notes)


def _examine_runtime(path: str) -> list[str]:
    if Path(path).name != "runc":
        return []
    text = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    changelog = gzip.decompress(CHANGELOG.read_bytes()).decode(errors="replace") if CHANGELOG.is_file() else ""
    if has_fixes(text, changelog):
        return []
    version = re.search(r"^commit: (\S+ds\S+)$", text, re.MULTILINE) or re.search(r"^runc version (\S+)", text)
    name = version[1] if version else "of unknown version"
    older = f"runc {name} is older than the fixes of November 2025 ({', '.join(FIXES)}), and its changelog does not name them;"
    return [
        f"{older} they matter where an attacker takes part in starting a container: docs/SECURITY.md says why that is hard here"
    ]


def has_fixes(version_text: str, changelog: str) -> bool:
    """Whether a runc is known to have the fixes of November 2025, by its version or by its distribution's changelog."""
    if all(fix in changelog for fix in FIXES):
        return True
    match = re.search(r"^runc version (\d+)\.(\d+)\.(\d+)(?:-rc\.(\d+))?", version_text, re.MULTILINE)
    if match is None:
        return False
    major, minor, patch = int(match[1]), int(match[2]), int(match[3])
    if (major, minor) in FIRST_FIXED:
        return patch >= FIRST_FIXED[major, minor]
    candidate = int(match[4]) if match[4] else 99
    return (major, minor, patch, candidate) >= (1, 4, 0, 3)


def _examine_cgroups(cgroups: Cgroups) -> list[str]:
    if cgroups.version == 0:
        return ["memory and CPU of sandboxes are not limited: run as root, or under systemd with Delegate=yes"]
    if not cgroups.counts_swap():
        return ["this kernel does not count swap: switch swap off, or boot with swapaccount=1"]
    return []
