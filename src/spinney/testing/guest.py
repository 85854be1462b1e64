"""The guest that driver suites put into a sandbox: speaks the guest channel and does what each call's body asks for.

Run by a bare Python inside a sandbox, so it imports nothing but the standard library. A body is a JSON object: ``do`` names one
of the functions below, the rest are its arguments; the result is JSON. ``python`` runs any code and returns its ``result``.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

CHANNEL = 3
READY, LOAD, INVOKE, RESULT, HOST_CALL, HOST_REPLY, WARM = 1, 2, 3, 4, 6, 7, 10
NOT_BEGUN = b"\x06" + bytes(4)
loaded: dict[str, Any] = {}


def send(call: int, kind: int, payload: bytes) -> None:
    """One frame."""
    data = len(payload).to_bytes(4, "little") + call.to_bytes(4, "little") + bytes([kind]) + payload
    while data:
        data = data[os.write(CHANNEL, data) :]


def receive(size: int) -> bytes:
    """Exactly ``size`` bytes; ends the process when the host is gone."""
    data = b""
    while len(data) < size:
        part = os.read(CHANNEL, min(1 << 16, size - len(data)))
        if not part:
            os._exit(0)
        data += part
    return data


def receive_frames() -> Iterator[tuple[int, int, bytes]]:
    """(call, kind, payload) without end."""
    while True:
        header = receive(9)
        yield int.from_bytes(header[4:8], "little"), header[8], receive(int.from_bytes(header[:4], "little"))


def echo(value: object) -> object:
    return value


def fail(message: str) -> None:
    raise RuntimeError(message)


def leave(code: int) -> None:
    os._exit(code)


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def hang() -> None:
    while True:
        signal.pause()


def spin() -> None:
    while True:
        pass


def write(stdout: str = "", stderr: str = "", leave: int | None = None) -> None:
    """Straight to the pipes; then, with ``leave``, exit at once."""
    for fd, text in ((1, stdout), (2, stderr)):
        data = text.encode()
        while data:
            data = data[os.write(fd, data) :]
    if leave is not None:
        os._exit(leave)


def remember(value: object) -> object:
    """What the call before gave; shows whether two calls met in one sandbox."""
    before, loaded["remembered"] = loaded.get("remembered"), value
    return before


def payload() -> object:
    return loaded.get("payload")


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def eat(mb: int) -> int:
    """Touch memory, a MB at a time."""
    eaten = []
    for _ in range(mb):
        eaten.append(bytearray(b"x" * (1 << 20)))
    return len(eaten)


def burn(cpu_s: float) -> float:
    end = time.process_time() + cpu_s
    while time.process_time() < end:
        pass
    return time.process_time()


def raw(data: str) -> None:
    """Write hexadecimal bytes to the channel as they are, and hang."""
    os.write(CHANNEL, bytes.fromhex(data))
    hang()


def close(fd: int) -> None:
    os.close(fd)
    hang()


def request(number: int, service: str, method: str = "", args: object = None, size: int = 0) -> None:
    """Ask something of the host, with ``size`` bytes beside it."""
    asked = json.dumps({"service": service, "method": method, "args": args or {}}).encode()
    payload = number.to_bytes(4, "little") + len(asked).to_bytes(4, "little") + asked + b"x" * size
    send(loaded["call"], HOST_CALL, payload)


def ask(requests: list[dict[str, Any]], enough: int | None = None) -> object:
    """Ask all of these at the same time; what the host said to each, or to the first ``enough``, and how many bytes came."""
    answers: dict[int, Any] = {}
    for number, asked in enumerate(requests):
        request(number, **asked)
    while len(answers) < (enough or len(requests)):
        header = receive(9)
        call, kind, data = int.from_bytes(header[4:8], "little"), header[8], receive(int.from_bytes(header[:4], "little"))
        if kind == INVOKE:
            send(call, RESULT, NOT_BEGUN)  # sent ahead, and not to wait for this one
        if kind == HOST_REPLY and call == loaded["call"]:
            size = int.from_bytes(data[4:8], "little")
            answers[int.from_bytes(data[:4], "little")] = {**json.loads(data[8 : 8 + size]), "bytes": len(data) - 8 - size}
    return [answer for _, answer in sorted(answers.items())]


def ask_unheard(service: str, times: int, size: int = 0) -> None:
    """Ask again and again and read no answer."""
    for number in range(times):
        request(number, service, size=size)
    hang()


def ask_late(service: str) -> None:
    """Ask for something after the end of this call."""
    loaded["late"] = service


def ask_and_leave(service: str, code: int) -> None:
    """Ask for something and exit without waiting, once the host has it."""
    request(0, service)
    ask([{"service": "echo"}])
    os._exit(code)


def python(code: str) -> object:
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - its whole purpose, inside a sandbox
    return names.get("result")


ABILITIES = {
    function.__name__: function
    for function in (
        *(echo, fail, leave, die, hang, spin, write, remember, payload, read, eat, burn, raw, close, python),
        *(ask, ask_unheard, ask_late, ask_and_leave),
    )
}


def main() -> None:
    send(0, READY, json.dumps({"version": sys.version.split()[0]}).encode())
    for call, kind, data in receive_frames():
        if kind == WARM:
            send(0, READY, b"{}")
        elif kind == LOAD:
            loaded["payload"] = json.loads(data)
        elif kind == INVOKE:
            id_size, meta_size = int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
            wanted = json.loads(data[12 + id_size + meta_size :])
            loaded["call"] = call
            try:
                value = ABILITIES[wanted.pop("do")](**wanted)
                send(call, RESULT, bytes(5) + json.dumps(value).encode())
            except Exception as error:
                send(call, RESULT, b"\x01" + bytes(4) + f"{type(error).__name__}: {error}".encode())
            if "late" in loaded:
                request(0, loaded.pop("late"))


if __name__ == "__main__":
    main()
