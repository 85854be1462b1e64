"""What Lua programs ask of the server: kv, env, http, ai, email (Lunar contract 3.5, 3.9, 3.10; docs/guest-channel.md)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from tests.unit.lua import Evaluator, evaluator

from spinney.errors import Invalid
from spinney.model import Call
from spinney.ports import Answer

PAGE = 3


class Asked(NamedTuple):
    service: str
    method: str
    args: dict[str, Any]
    data: bytes


class Host:
    """Services in memory: kv and env as they are, others answer what ``answers`` says. Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.entries: dict[tuple[str, bool], dict[bytes, bytes]] = {}
        self.answers: Callable[[Asked], Answer] = lambda asked: Answer(None)

    def answer(self, call: Call, service: str, method: str, args: bytes, data: bytes) -> Answer:
        asked = Asked(service, method, json.loads(args), data)
        self.asked.append(asked)
        if service in ("kv", "env"):
            return self._entry(asked)
        return self.answers(asked)

    def _entry(self, asked: Asked) -> Answer:
        args, data = asked.args, asked.data
        scope = self.entries.setdefault((asked.service, args.get("global", False)), {})
        key, rest = data[: args.get("key_bytes", len(data))], data[args.get("key_bytes", len(data)) :]
        match asked.method:
            case "get":
                return Answer(key in scope, scope.get(key, b""))
            case "set":
                if len(key) > 512:
                    return Answer(False)
                scope[key] = rest
            case "delete":
                scope.pop(key, None)
            case "list":
                keys = sorted(one for one in scope if one > key)[:PAGE]
                return Answer({"more": len(keys) == PAGE}, b"".join(len(one).to_bytes(4, "little") + one for one in keys))
            case "all":
                keys = sorted(one for one in scope if one > key)[:PAGE]
                parts = [(len(one).to_bytes(4, "little"), len(scope[one]).to_bytes(4, "little"), one, scope[one]) for one in keys]
                return Answer({"more": len(keys) == PAGE}, b"".join(b"".join(part) for part in parts))
            case "incr":
                if not scope.get(key, b"0").lstrip(b"-").isdigit():
                    raise Invalid("value is not an integer")
                scope[key] = b"%d" % (int(scope.get(key, b"0")) + args["by"])
                return Answer(int(scope[key]))
            case "cas":
                expected = None if args["expected_bytes"] is None else rest[: args["expected_bytes"]]
                new = None if args["new_bytes"] is None else rest[args["expected_bytes"] or 0 :]
                if scope.get(key) != expected:
                    return Answer(False)
                scope.pop(key, None)
                if new is not None:
                    scope[key] = new
        return Answer(True)


@pytest.fixture(scope="module")
def guest() -> Iterator[Evaluator]:
    with evaluator() as found:
        yield found


@pytest.fixture
def host(guest: Evaluator) -> Host:
    guest.services = host = Host()
    return host


# -- kv and env --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "keys", "flag"), [("", "listKeys", False), ("Global", "listGlobalKeys", True)])
def test_kv(guest: Evaluator, host: Host, suffix: str, keys: str, flag: bool) -> None:
    lines = """
        local out = { kv.getS("a") == nil, kv.setS("a", "1"), kv.getS("a"), kv.setS("b", 0.5), kv.getS("b"), kv.setS("c", "") }
        for _, value in ipairs({ kv.getS("c"), kv.deleteS("a"), kv.deleteS("a"), kv.getS("a") == nil, #kv.KEYS(), kv.allS() }) do
          out[#out + 1] = value
        end
        return out
    """
    lines = lines.replace("KEYS", keys).replace("S(", f"{suffix}(")
    assert guest(lines) == [True, True, "1", True, "0.5", True, "", True, True, True, 2, {"b": "0.5", "c": ""}]
    assert host.entries.keys() == {("kv", flag)}


def test_keys_and_values_are_any_bytes(guest: Evaluator, host: Host) -> None:
    assert guest("""
        local all = ""
        for byte = 0, 255 do all = all .. string.char(byte) end
        return kv.set(all, all), kv.get(all) == all, kv.listKeys()[1] == all, kv.all()[all] == all, kv.cas(all, all, "x"),
          kv.get(all)
    """) == [True, True, True, True, True, "x"]
    assert host.entries["kv", False] == {bytes(range(256)): b"x"}


def test_many_keys_come_in_pages_and_in_order(guest: Evaluator, host: Host) -> None:
    assert guest("for i = 9, 1, -1 do kv.set('k' .. i, i) end return kv.listKeys(), kv.all()") == [
        [f"k{number}" for number in range(1, 10)],
        {f"k{number}": str(number) for number in range(1, 10)},
    ]
    assert [asked.data for asked in host.asked if asked.method == "list"] == [b"", b"k3", b"k6", b"k9"]


def test_counting(guest: Evaluator, host: Host) -> None:
    assert guest(
        "return kv.incr('n'), kv.incr('n', 5), kv.incr('n', -10), kv.incr('n', '2'), kv.incr('n', 1.9), kv.get('n')"
    ) == [
        *(1, 6, -4, -2, -1, "-1"),
    ]
    assert guest("return kv.incrGlobal('n')") == 1
    assert guest("kv.set('t', 'x') return kv.incr('t')") == ["nil", "value is not an integer"]


def test_compare_and_set(guest: Evaluator, host: Host) -> None:
    assert guest("""
        return kv.cas("k", nil, "1"), kv.cas("k", nil, "2"), kv.cas("k", "x", "2"), kv.cas("k", 1, 2), kv.get("k"),
          kv.cas("k", "2", ""), kv.cas("k", "", nil), kv.get("k") == nil, kv.cas("k", nil, nil), kv.casGlobal("k", nil, "g")
    """) == [True, False, False, True, "2", True, True, True, True, True]


def test_env(guest: Evaluator, host: Host) -> None:
    assert guest(
        "return env.get('A') == nil, env.set('A', 5), env.get('A'), env.delete('A'), env.delete('A'), env.get('A') == nil"
    ) == [*(True, True, "5", True, True, True)]
    assert host.entries.keys() == {("env", False)} and guest("return env.get('PATH') == nil")


def test_empty_keys_are_none(guest: Evaluator, host: Host) -> None:
    assert guest("""
        return kv.get("") == nil, kv.set("", "x"), kv.delete(""), kv.cas("", nil, "x"), kv.incr("") == nil, env.set("", "x")
    """) == [True, False, False, False, True, False]
    assert host.entries.get(("kv", False), {}) == {}


def test_refusals_do_not_raise(guest: Evaluator, host: Host) -> None:
    assert guest("return kv.set(('k'):rep(513), 'x')") is False
    host._entry = lambda asked: (_ for _ in ()).throw(Invalid("no"))  # type: ignore[method-assign]
    assert guest("return kv.get('a') == nil, kv.set('a', 1), kv.delete('a'), kv.listKeys(), kv.all(), kv.cas('a', nil, 'b')") == [
        *(True, False, False, {}, {}, False)
    ]
    assert guest("return kv.incr('a')") == ["nil", "no"]


def test_what_is_larger_than_a_frame_is_refused_here(guest: Evaluator, host: Host) -> None:
    assert guest("return kv.set('a', ('x'):rep(10 * 2 ^ 20 + 1))") is False
    assert host.asked == []
    assert guest("return kv.set('a', ('x'):rep(10 * 2 ^ 20 - 1))") is True


# -- http --------------------------------------------------------------------------------------------------------------

HEADERS = [["Content-Type", "text/plain"], ["Set-Cookie", "a"], ["Set-Cookie", "b"]]


def test_http(guest: Evaluator, host: Host) -> None:
    host.answers = lambda asked: Answer({"status": 404, "headers": HEADERS, "url": "x"}, b"bo\xffdy")
    said = guest("""
        local response = http.post("http://h/p", {
          headers = { A = 1, B = "x", C = true }, query = { q = "ü", n = 2 }, body = "\\0\\255",
        })
        return response.statusCode, response.headers, #response.body
    """)
    assert said == [404, {"Content-Type": "text/plain", "Set-Cookie": "a"}, 5]
    (asked,) = host.asked
    assert sorted(map(tuple, asked.args.pop("headers"))) == [("A", "1"), ("B", "x"), ("C", "")]
    assert sorted(map(tuple, asked.args.pop("query"))) == [("n", "2"), ("q", "ü")]
    assert asked == Asked("http", "request", {"method": "POST", "url": "http://h/p"}, b"\0\xff")


def test_http_methods(guest: Evaluator, host: Host) -> None:
    host.answers = lambda asked: Answer({"status": 200, "headers": [], "url": "x"})
    guest("""
        for _, name in ipairs({ 'get', 'head', 'delete', 'post', 'put', 'patch' }) do http[name]('u', { body = 'b' }) end
        http.request('options', 'u')
        http.request('Get', 'u', { body = 'b' })
        http.get('u')
        http.post('u', { body = 5 })
        return 1
    """)
    assert [(asked.args["method"], asked.data) for asked in host.asked] == [
        *(("GET", b""), ("HEAD", b""), ("DELETE", b""), ("POST", b"b"), ("PUT", b"b"), ("PATCH", b"b")),
        *(("OPTIONS", b""), ("GET", b""), ("GET", b""), ("POST", b"5")),
    ]


def test_http_failures_are_values(guest: Evaluator, host: Host) -> None:
    def refuse(asked: Asked) -> Answer:
        raise Invalid("HTTP request failed: destination not allowed: h")

    host.answers = refuse
    assert guest("return http.get('http://h')") == ["nil", "HTTP request failed: destination not allowed: h"]
    host.asked.clear()
    assert guest("return http.get('http://h', { headers = { A = ('x'):rep(2 ^ 20) } })") == ["nil", "the request is too large"]
    assert host.asked == []


def test_an_answer_that_finds_no_room(guest: Evaluator, host: Host) -> None:
    host.answers = lambda asked: Answer({"status": 200, "headers": [], "url": "x"}, b"x" * (10 << 20))
    hoard = """
        local kept, ok, fault = {}, true, nil
        while ok do
          ok, fault = pcall(function() kept[#kept + 1] = http.get("http://h/" .. #kept).body .. #kept end)
        end
        local count = #kept
        kept = nil
        collectgarbage()
        return fault, count > 3, #http.get("http://h").body
    """
    assert guest(hoard) == ["not enough memory", True, 10 << 20]


# -- ai and email ------------------------------------------------------------------------------------------------------


def test_chat(guest: Evaluator, host: Host) -> None:
    said = {"content": "hi", "model": "m-1", "usage": {"input_tokens": 3, "output_tokens": 4}}
    host.answers = lambda asked: Answer(said)
    assert (
        guest("""
        return ai.chat({ provider = "openai", model = "m", messages = {
          { role = "system", content = "be brief" }, { role = "user", content = 5 }, { role = "", content = "x" },
          { content = "x" }, 7,
        } })
    """)
        == said
    )
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "5"}]
    assert host.asked == [Asked("ai", "chat", {"provider": "openai", "model": "m", "messages": messages}, b"")]
    guest("""
        return ai.chat({
          provider = "x", model = 4, messages = { { role = "user", content = "a" } }, max_tokens = "7", temperature = 0.5,
          endpoint = "http://e",
        }) ~= nil
    """)
    assert host.asked[1].args | {"messages": []} == {
        "provider": "x",
        "model": "4",
        "messages": [],
        "max_tokens": 7,
        "temperature": 0.5,
        "endpoint": "http://e",
    }


CHATS = {
    "{}": "provider is required (openai or anthropic)",
    "{ provider = true }": "provider is required (openai or anthropic)",
    "{ provider = 'x' }": "model is required",
    "{ provider = 'x', model = 'm' }": "messages is required and must be a table",
    "{ provider = 'x', model = 'm', messages = 'hi' }": "messages is required and must be a table",
    "{ provider = 'x', model = 'm', messages = {} }": "messages cannot be empty",
    "{ provider = 'x', model = 'm', messages = { { role = 'user' } } }": "messages cannot be empty",
}


def test_chats_that_are_refused_here(guest: Evaluator, host: Host) -> None:
    assert {options: guest(f"return ai.chat({options})") for options in CHATS} == {
        options: ["nil", message] for options, message in CHATS.items()
    }
    assert host.asked == []

    def refuse(asked: Asked) -> Answer:
        raise Invalid("OPENAI_API_KEY not set in function environment")

    host.answers = refuse
    assert guest("return ai.chat({ provider = 'openai', model = 'm', messages = { { role = 'user', content = 'x' } } })") == [
        *("nil", "OPENAI_API_KEY not set in function environment")
    ]


def test_mail(guest: Evaluator, host: Host) -> None:
    host.answers = lambda asked: Answer({"id": "m1"})
    assert guest("return email.send({ from = 'a@b', to = 'c@d', subject = 's', text = 't' })") == {"id": "m1"}
    plain = {"from": "a@b", "to": ["c@d"], "subject": "s", "text": "t"}
    assert host.asked == [Asked("email", "send", plain, b"")]
    guest("""
        return email.send({
          from = "a@b", to = { "c@d", "e@f" }, subject = 5, html = "<p>", cc = "g@h", bcc = { "i@j" }, reply_to = "k@l",
          headers = { ["X-A"] = 1 }, tags = { { name = "n", value = "v" }, { value = "lost" }, 5 }, scheduled_at = 1735787045,
        })
    """)
    assert host.asked[1].args == {
        "from": "a@b",
        "to": ["c@d", "e@f"],
        "subject": "5",
        "html": "<p>",
        "cc": ["g@h"],
        "bcc": ["i@j"],
        "reply_to": "k@l",
        "headers": {"X-A": "1"},
        "tags": [{"name": "n", "value": "v"}],
        "scheduled_at": "2025-01-02T03:04:05Z",
    }
    guest("return email.send({ from = 'a', to = 'b', subject = 's', text = 't', scheduled_at = 'tomorrow', cc = {}, tags = {} })")
    assert host.asked[2].args == {"from": "a", "to": ["b"], "subject": "s", "text": "t", "scheduled_at": "tomorrow"}


MAILS = {
    "{}": "to is required",
    "{ to = '' }": "to is required",
    "{ to = true }": "to must be a string or table of strings",
    "{ to = { 'a', true } }": "to must be a string or table of strings",
    "{ to = {} }": "to cannot be empty",
    "{ to = 'a' }": "from is required",
    "{ to = 'a', from = 'b' }": "subject is required",
    "{ to = 'a', from = 'b', subject = 's' }": "either text or html content is required",
}


def test_mails_that_are_refused_here(guest: Evaluator, host: Host) -> None:
    assert {options: guest(f"return email.send({options})") for options in MAILS} == {
        options: ["nil", message] for options, message in MAILS.items()
    }
    assert host.asked == []


# -- the channel meanwhile ---------------------------------------------------------------------------------------------


def test_a_call_that_was_sent_ahead_need_not_wait_for_the_host(guest: Evaluator, host: Host) -> None:
    given_back = []

    def answer(asked: Asked) -> Answer:
        given_back.append(guest.guest.gives_back(Call("e2", b"return 2", 10.0), 10.0))
        return Answer({"id": "m1"})

    host.answers = answer
    assert guest("return email.send({ from = 'a', to = 'b', subject = 's', text = 't' }).id") == "m1"
    assert given_back == [True]
