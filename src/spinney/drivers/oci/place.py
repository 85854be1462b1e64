"""What the parts of one driver share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from spinney.drivers.channel import Watchdog
from spinney.drivers.oci.cgroups import Cgroups
from spinney.drivers.oci.identity import Identities
from spinney.drivers.oci.network import Network
from spinney.drivers.oci.run_dir import RunDir
from spinney.drivers.oci.runtime import OciRuntime

T = TypeVar("T")


class InThread(Protocol):
    """Runs blocking work beside the event loop."""

    def __call__(self, function: Callable[..., T], *arguments: Any) -> Coroutine[Any, Any, T]: ...


@dataclass(frozen=True)
class Place:
    """Where and with what one driver makes its sandboxes."""

    run_dir: RunDir
    runtime: OciRuntime
    cgroups: Cgroups
    identities: Identities
    network: Network | None
    init: str
    filtered: bool
    watchdog: Watchdog
    call: InThread
    forget: Callable[[str], None]

    def remove_traces(self, name: str) -> None:
        """What a dead sandbox left: control groups, the runtime's state, directories. Raises OSError when a group will not go."""
        self.cgroups.remove(name)
        self.run_dir.remove(name)
