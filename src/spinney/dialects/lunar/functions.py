"""Functions, their entries and their versions (contract 2.5 to 2.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import tzinfo
from typing import Any

from spinney.core.kernel import Kernel, Target, new_short_id
from spinney.dialects.lunar import rules, wire
from spinney.dialects.lunar.access import NAME, identify
from spinney.dialects.lunar.cron import next_time
from spinney.dialects.lunar.diff import diff_lines
from spinney.dialects.lunar.replies import empty, json_response
from spinney.dialects.lunar.service import (
    NO_FUNCTION,
    entries_of,
    find_target,
    read_body,
    read_query,
    stored_entries,
    variables_of,
)
from spinney.errors import Conflict, Invalid, NotFound
from spinney.http.hot import Handler, HotRequest, HotResponse
from spinney.model import Function, Version

RUNTIME = "lua"
MEMORY_MB = 128
NO_VERSION = "Version not found"
ACTIVE = "Cannot delete active version"


class FunctionRoutes:
    """``timeout_s`` is the limit of all runs, ``zone`` the one of schedules that name none."""

    def __init__(self, kernel: Kernel, timeout_s: int, zone: tzinfo) -> None:
        self._kernel = kernel
        self._timeout_s = timeout_s
        self._zone = zone

    def routes(self) -> dict[tuple[str, str], Handler]:
        one = "/api/functions/{id}"
        return {
            ("POST", "/api/functions"): self.create,
            ("GET", "/api/functions"): self.list,
            ("GET", one): self.get,
            ("PUT", one): self.update,
            ("DELETE", one): self.delete,
            ("PUT", f"{one}/env"): self.set_variables,
            ("POST", f"{one}/kv"): self.set_entries,
            ("GET", f"{one}/next-run"): self.next_run,
            ("GET", f"{one}/versions"): self.versions,
            ("GET", f"{one}/versions/{{version}}"): self.version,
            ("POST", f"{one}/versions/{{version}}/activate"): self.activate,
            ("DELETE", f"{one}/versions/{{version}}"): self.delete_version,
            ("GET", f"{one}/diff/{{old}}/{{new}}"): self.diff,
        }

    # -- functions -----------------------------------------------------------------------------------------------------

    async def create(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        kinds = {name: rules.UPDATABLE[name] for name in ("name", "description", "code")}
        fields = await read_body(request, lambda body: rules.read_object(body, kinds))
        rules.check_new(fields)
        function, version = await self._kernel.functions.create(
            id=new_short_id(),
            account_id=caller.account_id,
            dialect=NAME,
            version={
                "runtime": RUNTIME,
                "handler": "",
                "source": fields["code"],
                "memory_mb": MEMORY_MB,
                "timeout_s": float(self._timeout_s),
            },
            settings={
                "name": fields["name"],
                "description": fields.get("description"),
                "disabled": False,
                "retention_days": None,
                "cron_schedule": "",
                "cron_status": "paused",
                "save_response": False,
            },
        )
        return json_response(200, wire.function_object(function, version))

    async def list(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        limit, offset = wire.page(read_query(request))
        every = self._kernel.index.find(NAME, caller.account_id)
        shown = {target.id: target.function for target in every[offset : offset + limit]}
        versions = await self._kernel.functions.current(every[offset : offset + limit])
        items = [wire.function_object(shown[version.id], version) for version in versions]
        return json_response(200, {"functions": items, "pagination": wire.pagination(len(every), limit, offset)})

    async def get(self, request: HotRequest) -> HotResponse:
        kernel = self._kernel
        caller = await identify(kernel, request)
        target = find_target(kernel, caller, request.parameters[0])
        id = target.function.id
        scopes = (variables_of(id), entries_of(caller, id, shared=False), entries_of(caller, id, shared=True))
        found = [(await stored_entries(kernel, scope)).shown for scope in scopes]
        return json_response(200, wire.function_object(target.function, await self._version(target), *found))

    async def update(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        fields = await read_body(request, lambda body: rules.read_object(body, rules.UPDATABLE))
        rules.check_update(fields)
        target = find_target(self._kernel, caller, request.parameters[0])
        code = fields.pop("code", None)
        version = {} if code is None else {"source": code}
        try:
            await self._kernel.functions.update(target.function.id, version=version, settings=fields, if_changed=code is None)
        except NotFound:
            raise NotFound(NO_FUNCTION) from None
        return empty(200)

    async def delete(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        target = find_target(self._kernel, caller, request.parameters[0])
        try:
            await self._kernel.functions.delete(target)
        except NotFound:
            raise NotFound(NO_FUNCTION) from None
        return empty(204)

    # -- entries -------------------------------------------------------------------------------------------------------

    async def set_variables(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        id = request.parameters[0]
        wanted = await read_body(request, rules.read_variables)
        stored = await stored_entries(self._kernel, variables_of(id if self._has(caller.account_id, id) else ""))
        rules.check_variables(wanted, stored.shown)
        return await self._replace(find_target(self._kernel, caller, id), stored.replace, wanted)

    async def set_entries(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        id = request.parameters[0]
        wanted, shared = await read_body(request, rules.read_entries)
        known = id if self._has(caller.account_id, id) else ""
        stored = await stored_entries(self._kernel, entries_of(caller, known, shared=shared))
        rules.check_entries(wanted, stored.shown)
        return await self._replace(find_target(self._kernel, caller, id), stored.replace, wanted)

    def _has(self, account_id: str, id: str) -> bool:
        return self._kernel.index.get(NAME, account_id, id) is not None

    async def _replace(self, target: Target, replace: Callable[[dict[str, str]], Any], wanted: dict[str, str]) -> HotResponse:
        try:
            await replace(wanted)
        except NotFound:
            raise NotFound(NO_FUNCTION) from None
        return json_response(200, wire.version_object(await self._version(target), target.id))

    async def _version(self, target: Target) -> Version:
        try:
            return await self._kernel.functions.version(target)
        except NotFound:
            raise NotFound(NO_FUNCTION) from None

    # -- the schedule --------------------------------------------------------------------------------------------------

    async def next_run(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        target = find_target(self._kernel, caller, request.parameters[0])
        return json_response(200, next_run(target.function, self._kernel.clock.now(), self._zone))

    # -- versions ------------------------------------------------------------------------------------------------------

    async def versions(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        target = find_target(self._kernel, caller, request.parameters[0])
        limit, offset = wire.page(read_query(request))
        found, total = await self._kernel.functions.versions(target.function.id, limit=limit, offset=offset)
        current = self._current(target)
        items = [wire.version_object(version, current) for version in found]
        return json_response(200, {"versions": items, "pagination": wire.pagination(total, limit, offset)})

    async def version(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        id, number = request.parameters[0], wire.integer(request.parameters[1])
        if number is None:
            raise Invalid("Invalid version number")
        version = await self._numbered(caller.account_id, id, number)
        if version is None:
            raise NotFound(NO_VERSION)
        target = find_target(self._kernel, caller, id)
        return json_response(200, wire.version_object(version, self._current(target)))

    async def activate(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        id, version_id = request.parameters
        if not self._has(caller.account_id, id):
            raise NotFound(NO_VERSION)
        try:
            await self._kernel.functions.activate(id, version_id)
        except NotFound:
            raise NotFound(NO_VERSION) from None
        return empty(200)

    async def delete_version(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        id, version_id = request.parameters
        if not self._has(caller.account_id, id):
            raise NotFound(NO_VERSION)
        try:
            await self._kernel.functions.delete_version(id, version_id)
        except NotFound:
            raise NotFound(NO_VERSION) from None
        except Conflict:
            raise Conflict(ACTIVE) from None
        await self._kernel.records.forget_version(id, version_id)
        return empty(204)

    async def diff(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        id, *numbers = request.parameters
        sides = []
        for name, number in zip(("v1", "v2"), map(wire.integer, numbers), strict=True):
            if number is None:
                raise Invalid(f"Invalid version number {name}")
            sides.append((name, number))
        found = []
        for name, number in sides:
            version = await self._numbered(caller.account_id, id, number)
            if version is None:
                raise NotFound(f"Version {name} not found")
            found.append(version)
        return await asyncio.to_thread(_diff, *found)

    async def _numbered(self, account_id: str, id: str, number: int) -> Version | None:
        try:
            return await self._kernel.functions.numbered(id, number) if self._has(account_id, id) else None
        except NotFound:
            return None

    def _current(self, target: Target) -> str:
        """The active version now: it may have changed since ``target`` was found."""
        return (self._kernel.index.get_function(target.function.id) or target).id


def _diff(old: Version, new: Version) -> HotResponse:
    lines = diff_lines(old.source, new.source)
    return json_response(200, {"old_version": old.number, "new_version": new.number, "diff": lines})


def schedule_of(function: Function) -> str | None:
    """The cron text by which a function fires; None when it does not."""
    settings = function.settings
    fires = settings["cron_status"] == "active" and not settings["disabled"]
    return settings["cron_schedule"] or None if fires else None


def next_run(function: Function, now: float, zone: tzinfo) -> dict[str, Any]:
    """When a function fires next, as far as its schedule says."""
    settings = function.settings
    if not settings["cron_schedule"]:
        return {"has_schedule": False}
    found = {"has_schedule": True, "cron_schedule": settings["cron_schedule"], "cron_status": settings["cron_status"]}
    if settings["cron_status"] != "active":
        return {**found, "is_paused": True}
    due = next_time(settings["cron_schedule"], now, zone)
    return found if due is None else {**found, "next_run": int(due), "next_run_human": wire.human_time(int(due - now))}
