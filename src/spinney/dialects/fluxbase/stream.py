"""Many invocations on one WebSocket: GET /api/v1/functions/stream (contract 2.10)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from urllib.parse import parse_qsl

import msgspec
import structlog

from spinney.core.kernel import Kernel
from spinney.dialects.fluxbase.access import Access
from spinney.dialects.fluxbase.guest import template
from spinney.dialects.fluxbase.invoke import HTTP, Answer, Invoke
from spinney.dialects.fluxbase.refusals import refuse
from spinney.dialects.fluxbase.wire import SERVER_FAULT, refusal, to_json
from spinney.errors import Error
from spinney.http.address import full_url
from spinney.http.bearer import WrongToken, bearer, find_caller, find_caller_late
from spinney.http.hot import HotRequest, HotResponse
from spinney.http.websocket import Conversation, Gone, SocketRoute, WebSocket
from spinney.http.wire import JSON_TYPE, Headers, NotJSON, check_json

log = structlog.get_logger("spinney.fluxbase")

STREAM = "/api/v1/functions/stream"
FRAME_MAX_BYTES = 10485760
CALLS_MAX = 64
"""Calls of one connection that run, or whose frames the client has not taken yet."""
REREAD_MAX = 1 << 20
"""Characters of a frame that may be read by Python's own JSON, which takes a tenth of a second for so many."""
NOT_PASSED_ON = ("connection", "upgrade", "keep-alive", "te", "trailer", "transfer-encoding", "content-length", "content-type")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Unusable(ValueError):
    """A frame that is no call; ``id`` is its own, as JSON, where it has one."""

    def __init__(self, why: str, id: bytes | None = None) -> None:
        super().__init__(why)
        self.id = id


class Call(msgspec.Struct):
    """A frame of the client's. ``payload`` and ``id`` are JSON texts as they came."""

    function: str
    payload: bytes
    id: bytes | None


class Stream:
    """Answers requests for such a connection."""

    def __init__(self, kernel: Kernel, access: Access, invoke: Invoke) -> None:
        self.kernel = kernel
        self.access = access
        self.invoke = invoke

    @property
    def route(self) -> SocketRoute:
        return SocketRoute(self._answer, FRAME_MAX_BYTES)

    async def _answer(self, request: HotRequest) -> HotResponse | Conversation:
        secret = presented_token(request)
        try:
            find_caller(self.kernel, secret)
        except WrongToken as wrong:
            try:
                await find_caller_late(self.kernel, wrong, request.client)
            except WrongToken as error:
                return refuse(error)
        return Calls(self, request, secret)


def presented_token(request: HotRequest) -> str | None:
    """The secret in the header, or else in the query, where browsers must put it; "" when it is empty, None without one."""
    secret = bearer(request.headers.authorization)
    if secret is not None:
        return secret
    query = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
    return next((value for name, value in query if name == "access_token"), None)


class Calls:
    """One connection's calls, run as they come, answered as they end."""

    def __init__(self, stream: Stream, request: HotRequest, secret: str | None) -> None:
        self._stream = stream
        self._secret = secret
        self._client = request.client
        self._host = request.headers.host
        self._directory = request.path.removesuffix("stream")
        self._headers = [
            *((name, value) for name, value in request.headers.fields if passed_on(name.decode("latin-1"))),
            JSON_TYPE,
        ]
        self._turn = asyncio.Lock()

    async def __call__(self, socket: WebSocket) -> None:
        room = asyncio.Semaphore(CALLS_MAX)
        running: set[asyncio.Task[None]] = set()

        def ended(task: asyncio.Task[None]) -> None:
            running.discard(task)
            room.release()

        try:
            while True:
                await room.acquire()
                message = await socket.receive()
                if message is None:
                    break
                task = asyncio.create_task(self._serve(socket, message))
                running.add(task)
                task.add_done_callback(ended)
            if running:
                await asyncio.wait(running)
        except asyncio.CancelledError:  # the server's time is over: what still runs is cut off, and its caller told
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise

    async def _serve(self, socket: WebSocket, message: str | bytes) -> None:
        """Run a call to its end, whether or not anybody is still there to hear of it."""
        frame = await self._run(message)
        try:
            async with self._turn:  # one is written out at a time: a frame may be several times its reply
                await socket.send(frame())
        except Gone:
            pass

    async def _run(self, message: str | bytes) -> Callable[[], bytes]:
        """What makes the frame that answers a call."""
        id = None
        try:
            call = read_call(message)
            id = call.id
            answer = await self._invoke(call)
            return lambda: answer_frame(answer, call)
        except Unusable as error:
            refused, id = refusal(400, "Invalid message", message=str(error)), error.id
        except Error as error:
            refused = refuse(error)
        except Exception:
            log.exception("a call on a WebSocket failed")
            refused = refusal(500, SERVER_FAULT)
        return lambda: refusal_frame(refused, id)

    async def _invoke(self, call: Call) -> Answer:
        """Raises Denied, NotFound, RateLimited, Unavailable."""
        stream = self._stream
        caller = find_caller(stream.kernel, self._secret)  # again: it may have been revoked meanwhile
        target = stream.access.admit(caller, call.function)
        stream.access.count_invoke(caller, self._client, target)
        url = full_url(stream.kernel.public_url, self._host, f"{self._directory}{call.function}/invoke", b"")
        meta = template("POST", url, self._headers, caller.account_id if caller else None).fill(len(call.payload))
        return await stream.invoke.run(target, meta, call.payload, HTTP)


def passed_on(header: str) -> bool:
    """Whether a header of the upgrade request is for the function, too."""
    return header not in NOT_PASSED_ON and not header.startswith(("sec-websocket-", "proxy-"))


def read_call(message: str | bytes) -> Call:
    """Raises Unusable."""
    if isinstance(message, bytes):
        raise Unusable("expected a text frame")
    fields = read_members(message)
    id, function = fields.get("id"), fields.get("function")
    if id is not None and id[:1] not in b'"-0123456789':
        raise Unusable("id: expected a string or a number")
    if function is None or function[:1] != b'"':
        raise Unusable("function: expected a string", id)
    return Call(json.loads(function), fields.get("payload", b"{}"), id)


def read_members(text: str) -> dict[str, bytes]:
    """The members of a JSON object, each as the JSON text that it is. Raises Unusable."""
    try:
        return {name: bytes(value) for name, value in _members(text).items()}
    except msgspec.ValidationError:
        raise Unusable("expected a JSON object") from None
    except RecursionError:
        raise Unusable("nested too deep") from None
    except msgspec.DecodeError as error:
        if "\\u" in text and len(text) <= REREAD_MAX:
            return _reread_members(text)
        raise Unusable(str(error)) from None


def _reread_members(text: str) -> dict[str, bytes]:
    """The same with lone surrogates, which JavaScript's strings may have and msgspec refuses."""
    try:
        check_json(text.encode())
        value = json.loads(text)
        if not isinstance(value, dict):
            raise Unusable("expected a JSON object")
        return {name: json.dumps(member, allow_nan=False).encode() for name, member in value.items()}
    except ValueError as error:
        raise Unusable(str(error)) from None


def answer_frame(answer: Answer, call: Call) -> bytes:
    """What tells the client of a run."""
    id = answer.execution.id.encode()
    if answer.failure is None:
        return _frame(call.id, answer.status, b'%b,"execution_id":"%b"' % (data(answer.headers, answer.body), id))
    failure = answer.failure
    rest = {"error": failure.error, "message": failure.message, "function": call.function, "execution_id": answer.execution.id}
    return _frame(call.id, answer.status, to_json(rest)[1:-1])


def refusal_frame(refused: HotResponse, id: bytes | None) -> bytes:
    """What tells the client that there was no run."""
    return _frame(id, refused.status, b'%b,"execution_id":null' % refused.body[1:-1])


def _frame(id: bytes | None, status: int, rest: bytes) -> bytes:
    return b'{%b"status":%d,%b}' % (b"" if id is None else b'"id":%b,' % id, status, rest)


def data(headers: Headers, body: bytes) -> bytes:
    """The members that say what a function replied: JSON as it is, other text as a string, other bytes in base64."""
    if not body:
        return b'"data":null'
    if is_json(next((value for name, value in headers if name.lower() == b"content-type"), b"")):
        try:
            check_json(body)
        except NotJSON:
            pass
        else:
            return b'"data":%b' % body
    try:
        return b'"data":%b' % to_json(body.decode())
    except UnicodeDecodeError:
        return b'"data":"%b","encoding":"base64"' % base64.b64encode(body)


def is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or media_type.endswith(b"+json")
