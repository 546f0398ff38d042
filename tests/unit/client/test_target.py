"""Finding the daemon: addresses, the places of its socket, the token, and what is said when it is away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leptond.client.target import (
    BadTarget,
    Interrupted,
    Target,
    Unreachable,
    find_target,
    find_token,
    parse_host,
    socket_candidates,
    token_file,
)
from tests.unit.cli.stub import Stub


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("/run/x.sock", "unix:/run/x.sock"),
        ("http://box", "http://box:8370"),
        ("https://box", "https://box:443"),
        ("https://box:8370", "https://box:8370"),
        ("http://127.0.0.1:99/", "http://127.0.0.1:99"),
        ("http://[::1]:99", "http://[::1]:99"),
    ],
)
def test_a_host_is_a_socket_or_a_port(host, text):
    assert str(parse_host(host)) == text


@pytest.mark.parametrize(
    "host",
    [
        "box",
        "box:80",
        "https://",
        "https://box/path",
        "unix:x",
        "unix://x/y",
        "http://",
        "http://a:x",
        "http://a/b",
        "ftp://a",
    ],
)
def test_anything_else_is_refused_with_a_hint(host):
    with pytest.raises(BadTarget, match="not an address") as error:
        parse_host(host)
    assert "unix:///" in (error.value.hint or "")


def test_the_users_socket_comes_before_the_machines():
    uid = os.getuid()
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "relative"}
    assert [str(path) for path in socket_candidates(environ)] == [
        "/r/leptond/leptond.sock",
        f"/run/user/{uid}/leptond/leptond.sock",
        "/h/.local/state/leptond/leptond.sock",
        "/run/leptond/leptond.sock",
    ]


def test_the_first_socket_that_is_there_is_taken(stub: Stub, home: Path):
    environ = {**os.environ, "XDG_RUNTIME_DIR": "/nowhere", "XDG_STATE_HOME": str(stub.path.parent.parent)}
    assert find_target(None, environ).path == str(stub.path)
    assert find_target("http://a:1", {"LEPTOND_HOST": "http://b:1"}).host == "a"
    assert find_target(None, {"LEPTOND_HOST": "http://b:1"}).host == "b"


def test_the_token_comes_from_the_environment_or_its_file(home: Path):
    assert find_token(os.environ) is None
    file = home / "XDG_CONFIG_HOME/leptond/token"
    file.parent.mkdir()
    file.write_text("lept_file\n")
    assert find_token(os.environ) == "lept_file"
    assert find_token({**os.environ, "LEPTOND_TOKEN": "lept_env"}) == "lept_env"


def test_without_a_socket_the_first_place_that_could_hold_one_is_named(tmp_path: Path):
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "none"), "XDG_STATE_HOME": str(tmp_path), "HOME": "/h"}
    found = find_target(None, environ)
    expected = [place for place in socket_candidates(environ) if Path(place).parent.parent.is_dir()]
    assert found.path == expected[0]
    assert list(found.looked_at) == socket_candidates(environ)


def test_the_token_file_is_the_users():
    assert token_file({"HOME": "/h"}) == "/h/.config/leptond/token"
    assert token_file({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}) == "/c/leptond/token"


@pytest.mark.parametrize(
    ("target", "advice"),
    [
        (Target(path="/run/leptond/leptond.sock", looked_at=("/run/leptond/leptond.sock",)), "start it"),
        (Target(path="/elsewhere/leptond.sock"), "--socket or --state-dir"),
        (Target(host="box", port=8370), "--listen"),
    ],
)
def test_a_daemon_that_is_not_there_comes_with_advice(target, advice):
    error = Unreachable(target, "no such file")
    assert str(error) == f"cannot reach leptond at {target} (no such file)"
    assert advice in (error.hint or "")
    assert (error.status, error.exit_code) == (0, 69)
    assert Unreachable(target, "denied", "ask for the right").hint == "ask for the right"


def test_an_interrupted_request_does_not_say_that_nothing_happened():
    error = Interrupted(Target(path="/x"), "reset")
    assert "it is not known" in (error.hint or "")
    assert error.problem["type"] == "/problems/interrupted"
