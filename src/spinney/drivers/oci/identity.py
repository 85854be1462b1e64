"""Which host users the insides of sandboxes are: two of their own for each with root, what the system allows without."""

from __future__ import annotations

import os
import pwd
from collections import deque
from pathlib import Path
from typing import Protocol

import msgspec

from spinney.drivers.oci.rootfs import GUEST_ID
from spinney.drivers.oci.settings import find_binary
from spinney.errors import StartFailed

UID_BASE = 1_900_000_000
"""Above every range that shadow (subuid) and systemd hand out, below 2**31."""

UID_RANGE = 131_072
"""Host ids of one server, two for each sandbox; servers on one machine get different ranges, as far as 1024 of them go."""


class Ids(msgspec.Struct, frozen=True):
    """Host ids of one sandbox.

    root: uid and gid 0 of its user namespace, which only sets it up. guest: what its code runs as; None where just one id can be
    mapped, so that its code is the namespace's root, without capabilities.
    """

    root: int
    guest: int | None

    @property
    def inside(self) -> int:
        """What the guest sees as its own id."""
        return 0 if self.guest is None else GUEST_ID

    def mappings(self) -> list[dict[str, int]]:
        """``linux.uidMappings`` and ``gidMappings`` of the bundle."""
        pairs = [(0, self.root)] if self.guest is None else [(0, self.root), (GUEST_ID, self.guest)]
        return [{"containerID": inside, "hostID": outside, "size": 1} for inside, outside in pairs]


class Identities(Protocol):
    """Hands out ids, each to one sandbox at a time."""

    def take(self) -> Ids:
        """Raises StartFailed when none is left."""

    def give(self, ids: Ids) -> None: ...


class RangeIdentities:
    """Ids out of a range that nobody else uses. With ``root`` given only the guest's id is taken from it."""

    def __init__(self, base: int, count: int, root: int | None = None) -> None:
        if root is None:
            self._free = deque(Ids(base + 2 * slot, base + 2 * slot + 1) for slot in range(count // 2))
        else:
            self._free = deque(Ids(root, base + slot) for slot in range(count))

    def take(self) -> Ids:
        """The one that has been free for longest: what a former owner left is gone by then."""
        if not self._free:
            raise StartFailed("no user id is free for another sandbox")
        return self._free.popleft()

    def give(self, ids: Ids) -> None:
        self._free.append(ids)


class OwnIdentity:
    """Everybody is the server's own user, apart only by namespaces."""

    def take(self) -> Ids:
        return Ids(os.geteuid(), None)

    def give(self, ids: Ids) -> None:
        """There is nothing to give back."""


def find_identities(base: int, tag: str) -> Identities:
    """What this process may use; ``base`` is the operator's choice or 0, ``tag`` hexadecimal digits that are the server's own."""
    if os.geteuid() == 0:
        return RangeIdentities(base or UID_BASE + int(tag[:8], 16) % 1024 * UID_RANGE, UID_RANGE)
    users, groups = find_subordinate("/etc/subuid"), find_subordinate("/etc/subgid")
    if users and groups and users[0] == groups[0] and find_binary("newuidmap") and find_binary("newgidmap"):
        return RangeIdentities(users[0], min(users[1], groups[1]), root=os.geteuid())
    return OwnIdentity()


def find_subordinate(file: str) -> tuple[int, int] | None:
    """First id and count of the range that /etc/subuid or /etc/subgid gives to this user."""
    uid = os.geteuid()
    try:
        owners = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        owners = {str(uid)}
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        owner, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if owner in owners and first.isdigit() and count.isdigit():
            return int(first), int(count)
    return None
