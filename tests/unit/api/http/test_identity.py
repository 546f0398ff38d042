"""Who a caller is, as the kernel and the accounts of the machine have it."""

import os
import pwd
import types

import pytest
from aiohttp import web

from leptond.api.http import identity
from leptond.api.http.identity import account_of, own_user, peer, user_name
from leptond.api.http.identity import may_connect as account_may

OWN = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(autouse=True)
def nothing_remembered():
    identity._account.cache_clear()
    identity.user_name.cache_clear()


def may_connect(user, path):
    """The uid of an account if it may use the socket at `path`."""
    account = account_of(user)
    return account.uid if account is not None and account_may(account, path) else None


@pytest.fixture
def place(tmp_path):
    one = tmp_path / "socket"
    one.touch()
    return one


def account(monkeypatch, uid, *groups):
    """The account ``ada`` of this machine."""
    entry = types.SimpleNamespace(pw_uid=uid, pw_gid=uid)

    def getpwnam(name):
        if name != "ada":
            raise KeyError(name)
        return entry

    monkeypatch.setattr(identity.pwd, "getpwnam", getpwnam)
    monkeypatch.setattr(identity.os, "getgrouplist", lambda name, group: list(groups))


def test_an_account_without_a_name_is_its_number():
    unknown = next(
        uid for uid in range(60_000, 70_000) if not any(uid == one.pw_uid for one in pwd.getpwall())
    )
    assert user_name(unknown) == f"uid-{unknown}"
    assert own_user() == user_name(os.geteuid()) == OWN


async def test_the_kernel_says_who_is_at_the_other_end(tmp_path):
    seen = []

    async def handle(request):
        seen.append(peer(request))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "socket")).start()
    tcp = web.TCPSite(runner, "127.0.0.1", 0)
    await tcp.start()
    try:
        import aiohttp

        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "socket"))) as client:
            await client.get("http://x/", headers={"X-Forwarded-User": "root"})
        async with aiohttp.ClientSession() as client:
            await client.get(f"http://127.0.0.1:{runner.addresses[-1][1]}/")
    finally:
        await runner.cleanup()
    local, remote = seen
    assert local == (os.getpid(), os.geteuid())
    assert remote is None, "a token has to say who it is"


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "may"),
    [
        (0o600, "owner", (), True),
        (0o060, "owner", (), False),
        (0o060, 70_001, ("group",), True),
        (0o606, 70_001, ("group",), False),
        (0o660, 70_001, (70_001,), False),
        (0o662, 70_001, (70_001,), True),
    ],
)
def test_a_token_is_worth_what_its_account_is(place, monkeypatch, mode, uid, groups, may):
    """The group's rights count for its members even where others have more: as the kernel decides it."""
    os.chown(place, 70_000, 70_010) if os.geteuid() == 0 else None
    seen = place.stat()
    if uid == "owner" and seen.st_uid == 0:
        pytest.skip("root may everything")
    place.chmod(mode)
    uid = seen.st_uid if uid == "owner" else uid
    account(monkeypatch, uid, *(seen.st_gid if one == "group" else one for one in groups))
    assert may_connect("ada", place) == (uid if may else None)


def test_root_may_everything_and_nobody_else_without_a_socket(place, monkeypatch):
    account(monkeypatch, 0)
    place.chmod(0)
    assert may_connect("ada", place) == 0
    assert may_connect("ada", place.with_name("none")) is None
    assert may_connect("bob", place) is None


def test_an_account_is_asked_for_again_after_a_while(place, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(identity.time, "monotonic", lambda: now)
    place.chmod(0o666)
    account(monkeypatch, 70_001)
    assert may_connect("ada", place) == 70_001
    account(monkeypatch, 70_002)
    assert may_connect("ada", place) == 70_001
    now += identity.ACCOUNT_S
    assert may_connect("ada", place) == 70_002
