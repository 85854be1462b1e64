"""Logging in and out, tokens, and the device flow (contract 2.2 to 2.4)."""

from __future__ import annotations

from typing import Any

from spinney.core.kernel import SESSION_S, Kernel
from spinney.dialects.lunar import rules, wire
from spinney.dialects.lunar.access import identify, session_secrets
from spinney.dialects.lunar.answers import CORS
from spinney.dialects.lunar.devices import INTERVAL_S, LIFETIME_S, Devices, Request
from spinney.dialects.lunar.events import COOKIE, to_json
from spinney.dialects.lunar.replies import error, json_response
from spinney.dialects.lunar.service import read_body, read_query
from spinney.errors import Error, Invalid, NotFound
from spinney.http.hot import Handler, HotRequest, HotResponse
from spinney.http.wire import JSON_TYPE, header

LOGIN = "lunar-login"
FAILURES_MAX = 20
"""Wrong keys from one address in a minute."""
LOOPBACK = ("127.0.0.1", "::1")
"""A proxy on this machine is believed when it says that a request came by https."""
ACTIONS = ("allow", "deny")


class CredentialRoutes:
    """``base_url`` is where browsers find the API."""

    def __init__(self, kernel: Kernel, base_url: str) -> None:
        self._kernel = kernel
        self._base_url = base_url
        self._devices = Devices(kernel.clock)

    def routes(self) -> dict[tuple[str, str], Handler]:
        return {
            ("POST", "/api/auth/login"): self.login,
            ("POST", "/api/auth/logout"): self.logout,
            ("POST", "/api/auth/device-request"): self.begin_device,
            ("GET", "/api/auth/device-token"): self.poll_device,
            ("GET", "/api/auth/device-approve"): self.show_device,
            ("POST", "/api/auth/device-approve"): self.decide_device,
            ("GET", "/api/tokens"): self.list_tokens,
            ("POST", "/api/tokens"): self.create_token,
            ("POST", "/api/tokens/{id}/revoke"): self.revoke_token,
        }

    # -- sessions ------------------------------------------------------------------------------------------------------

    async def login(self, request: HotRequest) -> HotResponse:
        limits = self._kernel.limits
        try:
            fields = await read_body(request, lambda body: rules.read_object(body, {"apiKey": str}))
        except Invalid as fault:
            return _refused(400, fault.message)
        quota = limits.look(LOGIN, FAILURES_MAX, request.client)
        if not quota.allowed:
            return _refused(429, "Too many attempts", (b"retry-after", b"%d" % quota.retry_after_s))
        if not self._kernel.tokens.is_admin_key(fields.get("apiKey", "")):
            limits.hit(LOGIN, FAILURES_MAX, request.client)
            return _refused(401, "Invalid API key")
        secret = await self._kernel.sessions.create()
        return json_response(200, {"success": True}, [self._cookie(request, secret, SESSION_S)])

    async def logout(self, request: HotRequest) -> HotResponse:
        for secret in session_secrets(request.headers):
            await self._kernel.sessions.end(secret)
        return json_response(200, {"success": True}, [self._cookie(request, "", 0)])

    def _cookie(self, request: HotRequest, value: str, age_s: int) -> tuple[bytes, bytes]:
        forwarded = request.client in LOOPBACK and header(request.headers.fields, b"x-forwarded-proto").lower() == "https"
        secure = value and (forwarded or self._base_url.startswith("https:"))
        text = f"{COOKIE}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict"
        return b"set-cookie", (text + "; Secure" if secure else text).encode()

    # -- devices -------------------------------------------------------------------------------------------------------

    async def begin_device(self, request: HotRequest) -> HotResponse:
        begun = self._devices.begin()
        if begun is None:
            return error(429, "Too many pending device requests")
        told = {
            "device_code": begun.device_code,
            "user_code": begun.user_code,
            "approval_url": f"{self._base_url}/#!/device-approve/{begun.device_code}",
            "expires_in": LIFETIME_S,
            "interval": INTERVAL_S,
        }
        return json_response(200, told)

    async def poll_device(self, request: HotRequest) -> HotResponse:
        found = self._devices.deliver(_code(request))
        return json_response(200, {"status": found.status, **({"token": found.token} if found.token else {})})

    async def show_device(self, request: HotRequest) -> HotResponse:
        await identify(self._kernel, request)
        found = self._devices.get(_code(request))
        told = {
            "device_code": found.device_code,
            "user_code": found.user_code,
            "status": found.status,
            "expires_at": int(found.expires_at),
        }
        return json_response(200, told)

    async def decide_device(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        fields = await read_body(request, lambda body: rules.read_object(body, {"device_code": str, "action": str}))
        if not fields.get("device_code"):
            raise Invalid("Missing device_code")
        if fields.get("action") not in ACTIONS:
            raise Invalid("Invalid action, must be 'allow' or 'deny'")
        found = self._devices.pending(fields["device_code"])
        if fields["action"] == "deny":
            found.status = "denied"
        else:
            await self._allow(caller, found)
        return json_response(200, {"success": True})

    async def _allow(self, caller: Any, found: Request) -> None:
        found.status = "approved"  # at once: a second approval must make no second token
        try:
            _, found.token = await self._kernel.tokens.create(caller, f"CLI ({found.user_code})")
        except Error:
            found.status = "pending"
            raise

    # -- tokens --------------------------------------------------------------------------------------------------------

    async def list_tokens(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        found = await self._kernel.tokens.find(caller.account_id)
        return json_response(200, {"tokens": [wire.token_object(token) for token in found]})

    async def create_token(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        fields = await read_body(request, lambda body: rules.read_object(body, {"name": str}))
        name = fields.get("name", "")
        rules.check_token_name(name)
        token, secret = await self._kernel.tokens.create(caller, name)
        return json_response(200, {**wire.token_object(token), "token": secret})

    async def revoke_token(self, request: HotRequest) -> HotResponse:
        caller = await identify(self._kernel, request)
        try:
            await self._kernel.tokens.revoke(caller.account_id, request.parameters[0])
        except NotFound:
            raise NotFound("Token not found") from None
        return json_response(200, {"success": True})


def _code(request: HotRequest) -> str:
    code = read_query(request).get("code", "")
    if not code:
        raise Invalid("Missing code parameter")
    return code


def _refused(status: int, message: str, *headers: tuple[bytes, bytes]) -> HotResponse:
    return HotResponse(status, [JSON_TYPE, *CORS, *headers], to_json({"success": False, "error": message}))
