"""Settings: three sources in order, and nothing unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinney.config import load
from spinney.errors import Invalid


def test_defaults_need_nothing() -> None:
    settings = load(None, {}, {})
    assert (settings.host, settings.port, settings.isolation) == ("127.0.0.1", 8080, "auto")


def test_a_later_source_wins(tmp_path: Path) -> None:
    file = tmp_path / "spinney.toml"
    file.write_text('port = 1\nhost = "::1"\n[pool]\nidle_s = 5\nstems_min = 3\n[impuls]\nnetwork = true\n')
    environment = {"SPINNEY_PORT": "2", "SPINNEY_POOL_IDLE_S": "7", "HOME": "/root", "SPINNEY_TOKEN": "client's"}
    settings = load(file, environment, {"port": 3, "root": None})
    assert (settings.port, settings.host) == (3, "::1")
    assert (settings.pool.idle_s, settings.pool.stems_min, settings.impuls.network) == (7.0, 3, True)


def test_a_dialects_settings() -> None:
    settings = load(
        None, {"SPINNEY_FLUXBASE_RATE_INVOKES": "0", "SPINNEY_FLUXBASE_INVOKE_AUTH": "required"}, {"root": "fluxbase"}
    )
    assert (settings.fluxbase.rate_invokes, settings.fluxbase.rate_writes, settings.fluxbase.invoke_auth) == (0, 60, "required")


def test_networks_may_be_listed() -> None:
    settings = load(None, {"SPINNEY_EGRESS_ALLOW": "10.0.0.0/8, 192.168.1.0/24"}, {})
    assert [str(network) for network in settings.egress_allow] == ["10.0.0.0/8", "192.168.1.0/24"]


@pytest.mark.parametrize(
    "environment,message",
    [
        ({"SPINNEY_PROT": "1"}, "environment variable SPINNEY_PROT: unknown setting"),
        ({"SPINNEY_PORT": "x"}, "setting port: "),
        ({"SPINNEY_PORT": "65536"}, "setting port: "),
        ({"SPINNEY_ROOT": "nothing"}, "setting root: "),
        ({"SPINNEY_PUBLIC_URL": "functions.example"}, "setting public_url: "),
        ({"SPINNEY_FLUXBASE_INVOKE_AUTH": "maybe"}, "setting fluxbase.invoke_auth: "),
        ({"SPINNEY_FLUXBASE_RATE_LISTS": "-1"}, "setting fluxbase.rate_lists: "),
        ({"SPINNEY_ADMIN_KEY": "short"}, "setting admin_key: "),
        ({"SPINNEY_POOL_QUEUE_TOTAL": "0"}, "setting pool.queue_total: "),
        ({"SPINNEY_EGRESS_ALLOW": "10.0.0.0/99"}, "setting egress_allow"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        load(None, environment, {})


@pytest.mark.parametrize(
    "text,message",
    [
        ("prot = 1", "setting prot: unknown setting"),
        ("[pool]\nx = 1", "setting pool.x: unknown setting"),
        ("port = ", "config file"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "spinney.toml"
    file.write_text(text)
    with pytest.raises(Invalid, match=message):
        load(file, {}, {})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="No such file"):
        load(tmp_path / "none.toml", {}, {})
