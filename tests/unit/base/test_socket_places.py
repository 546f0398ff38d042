"""Where a daemon puts its sockets, and where its clients look."""

import os

import pytest

from leptond.base.socket_places import of_user, to_look_at

SESSION = f"/run/user/{os.getuid()}/leptond/leptond.sock"


def test_the_places_follow_the_xdg_directories():
    assert of_user({"HOME": "/h", "XDG_RUNTIME_DIR": "/r/", "XDG_STATE_HOME": "/s"}) == [
        "/r/leptond/leptond.sock",
        "/s/leptond/leptond.sock",
    ]


@pytest.mark.parametrize("value", ["", "relative", "./x"])
def test_a_directory_that_is_no_absolute_path_is_ignored(value):
    found = of_user({"HOME": "/h", "XDG_RUNTIME_DIR": value, "XDG_STATE_HOME": value})
    assert found == [SESSION, "/h/.local/state/leptond/leptond.sock"]


def test_without_home_the_accounts_own_is_taken(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    home = os.path.expanduser("~")  # noqa: PTH111
    assert of_user({})[1] == f"{home}/.local/state/leptond/leptond.sock"


def test_a_client_looks_at_every_place_of_a_daemon_and_at_none_twice():
    environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/r"}
    places = to_look_at(environ)
    assert places == [
        "/r/leptond/leptond.sock",
        SESSION,
        "/h/.local/state/leptond/leptond.sock",
        "/run/leptond/leptond.sock",
    ]
    assert set(of_user(environ)) <= set(places)
    assert to_look_at({"HOME": "/h"}) == [SESSION, *places[2:]]
