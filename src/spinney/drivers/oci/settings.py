"""What an operator may set about sandboxes of the ``oci`` driver."""

from __future__ import annotations

import os
import shutil

import msgspec

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class OciSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of an ``OciDriver``.

    runtime: name or path of runc or crun.
    uid_base: first host uid and gid for user namespaces, 0 to derive a range from the run directory.
    memory_budget_bytes: hard limit for all sandboxes together, 0 for none.
    pids_budget: processes and threads of all sandboxes together.
    starts_max: sandboxes being started at once, 0 for two per core.
    start_timeout_s: from the request until the guest says that it is ready.
    egress_allow: CIDRs that sandboxes with network may reach although they are private.
    nameservers: what they may ask for names, empty for those of this host.
    network_cidr: where sandboxes with network get their addresses from.
    seccomp: False only for measuring what the filter costs.
    """

    runtime: str = "runc"
    uid_base: int = 0
    memory_budget_bytes: int = 0
    pids_budget: int = 65_536
    starts_max: int = 0
    start_timeout_s: float = 10.0
    egress_allow: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    network_cidr: str = "10.213.0.0/16"
    seccomp: bool = True


def find_binary(name: str) -> str | None:
    """The absolute path of a program, looked for where system administrators' programs are as well; None when there is none."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    return shutil.which(name, path=f"{SYSTEM_PATH}:{os.environ.get('PATH', '')}")
