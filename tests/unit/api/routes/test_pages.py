"""The page's files, without a browser."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
from importlib.resources import files

import aiohttp
import pytest

from leptond.api.http import identity
from leptond.api.routes.pages import POLICY, assets
from leptond.config import HttpSettings, Settings
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role

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
    return aiohttp.ClientSession(f"http://127.0.0.1:{world.api.port}", headers=headers)


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


async def test_a_token_is_told_only_where_the_kernel_vouches(world):
    async with over_tcp(world, "lept_good") as client:
        assert (await (await client.get("/v1/me")).json())["page_url"] is None
    me = await (await world.client.get("http://leptond/v1/me")).json()
    assert me["page_url"] == f"http://127.0.0.1:{world.api.port}/#token=lept_good"
    assert me["page_url_read_only"].endswith("lept_looks")


async def test_every_user_of_the_socket_has_a_page_of_its_own(world, monkeypatch):
    path = world.context.places.socket
    path.chmod(0o666)
    nobody = Caller(user="nobody", uid=pwd.getpwnam("nobody").pw_uid, role=Role.USER)
    peer = identity.peer
    monkeypatch.setattr(identity, "peer", lambda request: nobody if peer(request) is not None else None)
    me = (await world.get("/v1/me")).json
    token, looks = (me[field].partition("#token=")[2] for field in ("page_url", "page_url_read_only"))
    assert {token, looks}.isdisjoint({"lept_good", "lept_looks"})
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token + looks), "the page takes nothing else out of its address"
    async with over_tcp(world, token) as client:
        found = await (await client.get("/v1/me")).json()
        assert (found["user"], found["admin"], found["page_url"]) == ("nobody", False, None)
        made = await client.post("/v1/jobs", json={"argv": ["true"]})
        if os.geteuid() == 0:  # a daemon of root's takes no jobs of others, by this way neither
            assert made.status == 403
        else:
            assert (await made.json())["user"] == "nobody"
        assert (await client.post("/v1/gpus/0/drain", json={"reason": "x"})).status == 403
    async with over_tcp(world, looks) as client:
        assert (await client.get("/v1/status")).status == 200
        assert (await client.post("/v1/jobs", json={"argv": ["true"]})).status == 403
    path.chmod(0o600)
    async with over_tcp(world, token) as client:
        gone = await client.get("/v1/status")
        assert (gone.status, "may not use this queue" in (await gone.json())["detail"]) == (403, True)
    async with over_tcp(world, token[:-1] + ("0" if token[-1] != "0" else "1")) as client:
        assert (await client.get("/v1/status")).status == 401
