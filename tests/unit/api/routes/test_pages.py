"""The page's files, without a browser."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import aiohttp
import pytest

from leptond.api.routes.pages import POLICY, assets
from leptond.config import HttpSettings, Settings

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
