"""Typed settings: a TOML file, then the environment, then flags; what is not known is an error.

A setting ``group.name`` is ``name`` in the table ``[group]`` of the file and ``SPINNEY_GROUP_NAME`` in the environment.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.networks import IPvAnyNetwork

from spinney.errors import Invalid

PREFIX = "SPINNEY_"
CLIENT_VARIABLES = ("SPINNEY_TOKEN",)
"""Read by the commands that talk to a server, not by the server."""

PLAIN = {
    "EXECUTION_TIMEOUT": (("lunar", "execution_timeout"), re.compile("0*[1-9][0-9]{0,5}")),
    "BASE_URL": (("lunar", "base_url"), re.compile("https?://.+")),
}
"""Variables that are read under the names by which an API's users know them, while their values make sense."""

Positive = Annotated[int, Field(gt=0)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SandboxSettings(_Group):
    """How sandboxes are made."""

    runtime: str = "runc"
    """OCI runtime: a name on the PATH or a path."""
    run_dir: Path | None = None
    """Where live sandboxes keep their files; a directory under /run by default."""
    uid_base: int = Field(0, ge=0)
    """First host uid and gid of the range that users of sandboxes are mapped to; 0 picks one."""
    memory_budget_mb: int = Field(0, ge=0)
    """What all sandboxes together may use; 0 is 60 % of the machine's memory."""
    cpus: float = Field(1.0, gt=0)
    """CPU time one sandbox may use, in cores."""
    starts_parallel: Positive = 4
    """Sandboxes started at the same time."""
    extra_memory_mb: int = Field(64, ge=0, le=64)
    """Memory on top of a function's own limit, for the runtime itself."""


class PoolSettings(_Group):
    """How sandboxes are kept warm and how calls wait."""

    stems_min: int = Field(1, ge=0)
    """Booted sandboxes without code kept ready per runtime in use."""
    stems_max: int = Field(8, ge=0)
    """The most that are kept when a runtime is called for often; 0, with a minimum of 0, keeps none ever."""
    idle_s: float = Field(300.0, gt=0)
    """A warm sandbox that nobody called for so long is closed."""
    sandboxes_per_function: Positive = 64
    queue_per_function: Positive = 1000
    """Calls of one function that wait, beside those that run."""
    queue_total: Positive = 4096
    queue_wait_s: float = Field(60.0, gt=0)


class BuildSettings(_Group):
    """Compiling versions in compiled languages."""

    parallel: int = Field(2, ge=2, le=64)
    """Builds that run at the same time; never one alone, which would hold up all others."""
    warm: bool = True
    """Keep one compiler of each language ready: a few hundred megabytes, for builds that take a second less."""


class ImpulsSettings(_Group):
    """The Impuls API."""

    network: bool = False
    """Give functions a network behind NAT (public addresses only)."""
    executions_kept: Positive = 1000
    """Finished executions kept per function."""


class FluxbaseSettings(_Group):
    """The Fluxbase API. Rates are requests per minute; 0 is no limit."""

    invoke_auth: Literal["optional", "required"] = "optional"
    """Whether functions that do not say so themselves can be invoked without a token."""
    rate_writes: int = Field(60, ge=0)
    rate_lists: int = Field(300, ge=0)
    rate_history: int = Field(300, ge=0)
    rate_invokes: int = Field(600, ge=0)


class LunarSettings(_Group):
    """The Lunar API. Its users know some of these by other names: see PLAIN."""

    execution_timeout: int = Field(300, gt=0, le=4_000_000)
    """Seconds that a run may take."""
    base_url: str | None = None
    """Where its users find it, when that is not the server's own address."""


class Settings(_Group):
    """Everything ``spinney serve`` can be told."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    public_url: str | None = Field(None, pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")
    """Where users find the server, when that is not its own address (behind a proxy)."""
    data_dir: Path = Path("data")
    root: Literal["impuls", "fluxbase", "nil", "lunar"] | None = None
    isolation: Literal["auto", "oci", "microvm"] = "auto"
    no_rate_limits: bool = False
    egress_allow: tuple[IPvAnyNetwork, ...] = ()
    admin_key: str | None = Field(None, min_length=16)
    drain_s: float = Field(10.0, ge=0)
    database_url: str | None = None
    log_format: Literal["auto", "json", "console"] = "auto"
    sandbox: SandboxSettings = SandboxSettings()
    pool: PoolSettings = PoolSettings()
    builds: BuildSettings = BuildSettings()
    impuls: ImpulsSettings = ImpulsSettings()
    fluxbase: FluxbaseSettings = FluxbaseSettings()
    lunar: LunarSettings = LunarSettings()

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def load(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Merge the three sources; a later one wins.

    Raises Invalid, with the name of the setting and the rule, for unknown names, wrong types and values out of range.
    """
    merged: dict[str, Any] = _read(file) if file else {}
    for path, value in _from_environment(environment):
        _put(merged, path, value)
    for name, value in flags.items():
        if value is not None:
            merged[name] = value
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        text = "unknown setting" if first["type"] == "extra_forbidden" else first["msg"]
        raise Invalid(f"setting {name}: {text}", name) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise Invalid(f"config file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"config file {file}: {error}") from None


def _names(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, (*path, name))
        else:
            yield (*path, name)


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    for variable, (path, rule) in PLAIN.items():
        if rule.fullmatch(environment.get(variable, "")):
            yield path, environment[variable]
    known = {PREFIX + "_".join(path).upper(): path for path in _names(Settings)}
    for variable, value in environment.items():
        if variable.startswith(PREFIX) and variable not in CLIENT_VARIABLES:
            if variable not in known:
                raise Invalid(f"environment variable {variable}: unknown setting", variable)
            yield known[variable], value


def _put(merged: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    table = merged
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value
