"""The page's files, without a browser."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
from importlib.resources import files

import aiohttp
import pytest

from leptond.api.routes.pages import POLICY, assets
from leptond.config import HttpSettings, Settings
from leptond.core.access.roles import Role
from leptond.services.sign_in import LINK_S, Person, SignInLinks
from tests.support.access import as_caller, person

WEB = files("leptond.api") / "web"


def test_what_is_vendored_is_unchanged():
    table = (WEB / "vendor" / "VENDORED.md").read_text()
    told = dict(re.findall(r"^\| ([a-z.-]+) \|.*\| ([0-9a-f]{64}) \|$", table, re.MULTILINE))
    scripts = {name for name in assets() if name.startswith("vendor/")}
    assert {f"vendor/{name}" for name in told} == scripts
    for name, digest in told.items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest, name


def test_nothing_comes_from_elsewhere():
    assert "http" not in POLICY
    for name, (data, _) in assets().items():
        if name.startswith("vendor/") or name.endswith(".svg"):
            continue
        text = data.decode()
        assert not re.search(r"""(?:src|href|from|import|url)\s*[=(]?\s*["'(]\s*(?:https?:)?//""", text), name
        assert "innerHTML" not in text, name
        assert not re.search(r"\sstyle=", text), f"{name}: the policy forbids inline styles"


def test_every_module_is_asked_for_at_once():
    page = assets()["index.html"][0].decode()
    modules = {name for name in assets() if name.endswith(".js")} - {"app.js", "vendor/uplot.js"}
    assert set(re.findall(r'modulepreload" href="/web/([^"]+)"', page)) == modules


def test_every_module_that_is_imported_is_there():
    for name, (data, _) in assets().items():
        for wanted in re.findall(r"""["']/web/([a-z./-]+)["']""", data.decode()):
            assert wanted in assets(), f"{name} wants {wanted}"


@pytest.fixture
def settings() -> Settings:
    return Settings(http=HttpSettings(listen="127.0.0.1:0"))


def over_tcp(world, token: str | None = None) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{world.api.port}", headers=headers, cookie_jar=aiohttp.CookieJar(unsafe=True)
    )


async def test_the_page_is_served_without_a_token_and_nothing_else_is(world):
    async with over_tcp(world) as client:
        page = await client.get("/")
        assert page.status == 200
        assert page.headers["Content-Security-Policy"] == POLICY
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        again = await client.get("/", headers={"If-None-Match": page.headers["ETag"]})
        assert again.status == 304
        assert (await client.get("/web/app.js")).status == 200
        assert (await client.get("/web/vendor/uplot.js")).status == 200
        assert (await client.get("/v1/status")).status == 401
        assert (await client.get("/v1/me")).status == 401


async def test_the_read_only_token_changes_nothing(world):
    async with over_tcp(world, "lept_looks") as client:
        me = await (await client.get("/v1/me")).json()
        assert (me["read_only"], me["admin"], me["page_url"]) == (True, False, None)
        assert (await client.get("/v1/status")).status == 200
        refused = await client.post("/v1/jobs", json={"argv": ["true"]})
        assert refused.status == 403
        assert "only looks" in (await refused.json())["detail"]
        assert (await client.delete("/v1/jobs/1")).status == 403
        assert (await client.patch("/v1/jobs/1", json={"priority": 1})).status == 403


async def signed_in(client, link):
    """Sign in by a link of the page; return the headers of the session."""
    code = link.partition("#login=")[2]
    assert re.fullmatch(r"[A-Za-z0-9_-]+", code), "the page takes nothing else out of its address"
    answer = await client.post("/v1/session", json={"code": code})
    assert answer.status == 201, await answer.text()
    return {"X-Leptond-Session": (await answer.json())["key"]}


async def test_a_link_is_told_only_where_the_kernel_vouches(world):
    async with over_tcp(world, "lept_good") as client:
        assert (await (await client.get("/v1/me")).json())["page_url"] is None
    me = await (await world.client.get("http://leptond/v1/me")).json()
    assert me["page_url"].startswith(f"http://127.0.0.1:{world.api.port}/#login=")
    assert me["page_url_read_only"] != me["page_url"]


async def test_every_user_of_the_socket_has_a_page_of_its_own(world, monkeypatch):
    path = world.context.places.socket
    path.chmod(0o666)
    with monkeypatch.context() as as_nobody:
        as_caller(as_nobody, world.context, person("nobody", pwd.getpwnam("nobody").pw_uid))
        me = (await world.get("/v1/me")).json
    async with over_tcp(world) as client:
        session = await signed_in(client, me["page_url"])
        found = await (await client.get("/v1/me", headers=session)).json()
        assert (found["user"], found["role"], found["via"]) == ("nobody", "user", "session")
        made = await client.post("/v1/jobs", json={"argv": ["true"]}, headers=session)
        if os.geteuid() == 0:  # a daemon of root's takes no jobs of others, by this way neither
            assert made.status == 403
        else:
            assert (await made.json())["user"] == "nobody"
        assert (await client.post("/v1/gpus/0/drain", json={"reason": "x"}, headers=session)).status == 403
        path.chmod(0o600)
        gone = await client.get("/v1/status", headers=session)
        assert (gone.status, "may not use this queue" in (await gone.json())["detail"]) == (403, True)
    path.chmod(0o666)
    async with over_tcp(world) as client:
        session = await signed_in(client, me["page_url_read_only"])
        assert (await client.get("/v1/status", headers=session)).status == 200
        assert (await client.post("/v1/jobs", json={"argv": ["true"]}, headers=session)).status == 403


class Later:
    """A clock at an instant."""

    def __init__(self, at):
        self.at = at

    def boot(self):
        return self.at


async def test_a_link_is_good_once_and_for_a_short_time(world):
    me = (await world.get("/v1/me")).json
    code = me["page_url"].partition("#login=")[2]
    async with over_tcp(world) as client:
        assert (await client.post("/v1/session", json={"code": code})).status == 201
    async with over_tcp(world) as client:
        again = await client.post("/v1/session", json={"code": code})
        assert (again.status, "Set-Cookie" in again.headers) == (401, False)
        assert "not good any more" in (await again.json())["detail"]
    clock = Later(1000.0)
    links = SignInLinks(clock)
    early, late = (links.make(Person(user="ana", uid=None, role=Role.USER)) for _ in range(2))
    clock.at += LINK_S
    assert links.redeem(early) is not None
    clock.at += 1
    assert links.redeem(late) is None


async def test_half_of_a_session_is_worth_nothing(world):
    """The cookie may reach servers of others on this host; without the page's key it opens nothing, and the
    key nothing without it."""
    me = (await world.get("/v1/me")).json
    async with over_tcp(world) as client:
        session = await signed_in(client, me["page_url"])
        (cookie,) = client.cookie_jar
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
        assert (await client.get("/v1/status")).status == 401
        assert (await client.get("/v1/status", headers=session)).status == 200
        assert (await client.delete("/v1/session", headers=session)).status == 204
        assert (await client.get("/v1/status", headers=session)).status == 401
    async with over_tcp(world) as client:
        assert (await client.get("/v1/status", headers=session)).status == 401


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("http://127.0.0.1:9", 403),  # a server of another user on this host
        ("http://localhost:{port}", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
async def test_only_the_pages_own_origin_may_use_a_session(world, origin, status):
    me = (await world.get("/v1/me")).json
    async with over_tcp(world) as client:
        session = await signed_in(client, me["page_url"])
        sent = {**session, "Origin": origin.format(port=world.api.port)}
        assert (await client.get("/v1/status", headers=sent)).status == status
