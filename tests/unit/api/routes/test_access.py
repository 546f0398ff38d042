"""Tokens, sign-in and whoami over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import re
import time

import aiohttp
import pytest

from leptond.api.http.sse import PING_S
from leptond.config import HttpSettings, Settings
from leptond.core.access.roles import Role
from leptond.core.access.rules import AccessRules
from leptond.services.sign_in import Person
from tests.support.access import as_caller, person

STREAM = {"Accept": "text/event-stream"}
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def settings() -> Settings:
    return Settings(
        http=HttpSettings(listen="127.0.0.1:0"), access=AccessRules(operators=["nobody"], token_max_s=3600.0)
    )


def over_tcp(world, secret):
    headers = {"Authorization": f"Bearer {secret}"}
    return aiohttp.ClientSession(f"http://127.0.0.1:{world.api.port}", headers=headers)


async def rest_of(stream):
    """Read until the daemon ends the stream: long before its next ping, which alone would show a client that
    is merely gone."""
    async with asyncio.timeout(PING_S - 2):
        while await stream.content.readline():
            pass


async def made(world, **body):
    answer = await world.post("/v1/tokens", {"name": "ci", "lifetime_s": 60, **body})
    assert answer.status == 201, answer.data
    return answer.json["token"], answer.json["secret"]


async def test_a_token_is_told_once_and_stored_as_its_digest(world):
    token, secret = await made(world)
    assert re.fullmatch(r"lept_[A-Za-z0-9_-]{43}", secret)
    stored = (await world.everything())["tokens"]
    assert secret not in repr(stored)
    assert hashlib.sha256(secret.encode()).hexdigest() in repr(stored)
    listed = (await world.get("/v1/tokens")).json["items"]
    assert [one["id"] for one in listed] == [token["id"]]
    assert secret.encode() not in (await world.get("/v1/tokens")).data
    events = (await world.get("/v1/events?type=token.made")).json["items"]
    assert [one["data"]["id"] for one in events] == [token["id"]]


async def test_a_token_acts_with_its_role_and_shows_when_it_was_used(world):
    _, secret = await made(world, role="viewer")
    async with over_tcp(world, secret) as client:
        me = await (await client.get("/v1/me")).json()
        assert (me["user"], me["role"], me["via"]) == (pwd.getpwuid(os.geteuid()).pw_name, "viewer", "token")
        assert (await client.post("/v1/jobs", json={"argv": ["true"]})).status == 403
    await world.context.registry.write_uses()
    (stored,) = await world.store.read(lambda db: db.execute("SELECT last_used_at FROM tokens").fetchall())
    assert stored[0] == pytest.approx(time.time(), abs=60)


async def test_a_revoked_token_ends_at_once_with_its_streams(world):
    token, secret = await made(world)
    async with over_tcp(world, secret) as client:
        async with client.get("/v1/events", headers=STREAM) as stream:
            assert b"hello" in await stream.content.readline()
            assert (await world.request("DELETE", f"/v1/tokens/{token['id']}")).status == 204
            with pytest.raises(aiohttp.ClientError):
                await rest_of(stream)
        assert (await client.get("/v1/status")).status == 401
    assert (await world.everything())["tokens"] == []
    assert (await world.request("DELETE", f"/v1/tokens/{token['id']}")).status == 404


async def test_a_stream_ends_with_the_life_of_its_token(world):
    _, secret = await made(world, lifetime_s=1.0)
    async with over_tcp(world, secret) as client:
        async with client.get("/v1/events", headers=STREAM) as stream:
            with pytest.raises(aiohttp.ClientError):
                await rest_of(stream)
        assert (await client.get("/v1/status")).status == 401


async def test_tokens_outlive_the_daemon(world):
    _, secret = await made(world)
    await world.context.registry.load()
    assert world.context.registry.find(secret) is not None


async def test_a_token_is_made_over_the_socket_alone(world):
    _, secret = await made(world, role="admin")
    async with over_tcp(world, secret) as client:
        refused = await client.post("/v1/tokens", json={"name": "another"})
        assert (refused.status, "over the Unix socket" in (await refused.json())["detail"]) == (403, True)
        assert (await client.get("/v1/tokens")).status == 200


async def test_a_token_never_has_more_than_its_account(world, monkeypatch):
    world.context.places.socket.chmod(0o666)
    refused = await world.post("/v1/tokens", {"name": "x", "user": "nobody", "role": "admin"})
    assert (refused.status, "the account has operator" in refused.json["detail"]) == (403, True)
    _, secret = await made(world, user="nobody", role="operator")
    async with over_tcp(world, secret) as client:
        assert (await client.post("/v1/gpus/0/drain", json={"reason": "x"})).status == 200
        assert (await client.get("/v1/db")).status == 403
        world.context.places.socket.chmod(0o600)
        assert (await client.get("/v1/status")).status == 403


async def test_nobody_makes_or_ends_tokens_of_others(world, monkeypatch):
    token, _ = await made(world)
    as_caller(monkeypatch, world.context, person("bo", 4002))
    assert (await world.post("/v1/tokens", {"name": "x", "user": "nobody"})).status == 403
    assert (await world.request("DELETE", f"/v1/tokens/{token['id']}")).status == 404
    assert (await world.get("/v1/tokens")).json == {"items": []}


async def test_a_person_without_an_account_has_the_role_of_the_token(world):
    _, secret = await made(world, user="remote-person", role="user")
    async with over_tcp(world, secret) as client:
        me = await (await client.get("/v1/me")).json()
        assert (me["user"], me["uid"], me["role"]) == ("remote-person", None, "user")
        assert (await client.post("/v1/gpus/0/drain", json={"reason": "x"})).status == 403


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "lifetime_s": 3601},
        {"name": "x", "lifetime_s": 0},
        {"name": ""},
        {"name": "x", "role": "king"},
        {"name": "x", "user": "../root"},
        {},
    ],
)
async def test_what_is_no_token_is_refused(world, body):
    answer = await world.post("/v1/tokens", body)
    assert answer.status == 422
    assert (await world.everything())["tokens"] == []


async def test_a_job_signs_nobody_in_and_administers_nothing(world, monkeypatch):
    as_caller(monkeypatch, world.context, person("bo", 4002, job=7))
    me = (await world.get("/v1/me")).json
    assert (me["job"], me["page_url"], me["role"]) == (7, None, "user")
    for method, path, body in (
        ("POST", "/v1/tokens", {"name": "x"}),
        ("GET", "/v1/tokens", None),
        ("POST", "/v1/gpus/0/drain", {"reason": "x"}),
        ("POST", "/v1/purge", {}),
        ("GET", "/v1/db/backup", None),
    ):
        assert (await world.request(method, path, body)).status == 403, path


async def test_an_administrator_submits_for_another_and_it_is_recorded(world, monkeypatch):
    monkeypatch.setattr("leptond.core.access.run_as.must_run", lambda settings, **who: None)
    answer = await world.post("/v1/jobs", {"argv": ["true"]}, X_Leptond_For="nobody")
    assert answer.status == 201, answer.data
    job = (await world.get(f"/v1/jobs/{answer.json['id']}")).json
    assert job["user"] == "nobody"
    (event,) = (await world.get("/v1/events?type=access.acted")).json["items"]
    assert event["data"]["submitted_for"] == "nobody"
    assert (await world.post("/v1/jobs", {"argv": ["true"]}, X_Leptond_For="root")).status == 403
    assert (await world.post(f"/v1/jobs/{job['id']}/cancel", {}, X_Leptond_For="nobody")).status == 400
    as_caller(monkeypatch, world.context, person("bo", 4002))
    assert (await world.post("/v1/jobs", {"argv": ["true"]}, X_Leptond_For="nobody")).status == 403
    assert (await world.post("/v1/jobs", {"argv": ["true"]}, X_Leptond_For="a b")).status == 400


async def test_what_an_administrator_does_to_the_database_is_recorded(world):
    assert (await world.get("/v1/db/backup")).status == 200
    events = (await world.get("/v1/events?type=access.acted")).json["items"]
    assert [(one["data"]["method"], one["data"]["path"]) for one in events] == [("GET", "/v1/db/backup")]


async def test_an_operator_orders_the_jobs_of_others_and_reads_none(world, monkeypatch):
    job = await world.submit(name="theirs", env={"PLAIN": "hidden"})
    as_caller(monkeypatch, world.context, person("nobody", NOBODY.pw_uid, Role.OPERATOR))
    shown = await world.get(f"/v1/jobs/{job}")
    assert (shown.status, shown.json["name"], shown.json["private"]) == (200, "theirs", True)
    assert b"hidden" not in shown.data
    assert b"PLAIN" not in shown.data
    assert (await world.request("PATCH", f"/v1/jobs/{job}", {"priority": 9})).status == 200
    assert (await world.request("PATCH", f"/v1/jobs/{job}", {"name": "mine"})).status == 403
    assert (await world.post(f"/v1/jobs/{job}/hold")).status == 200
    assert (await world.get(f"/v1/jobs/{job}/log")).status == 403
    assert (await world.request("DELETE", f"/v1/jobs/{job}")).status == 403
    assert (await world.post(f"/v1/jobs/{job}/cancel")).status == 202


async def test_one_person_has_so_many_tokens_sessions_and_links(world, monkeypatch):
    monkeypatch.setattr("leptond.services.tokens.MOST_OF_ONE", 3)
    monkeypatch.setattr("leptond.services.sign_in.MOST_OF_ONE", 4)
    for _ in range(3):
        await made(world)
    assert (await world.post("/v1/tokens", {"name": "one-more"})).status == 429
    others = world.context.sign_in.make(Person(user="bo", uid=None, role=Role.USER))
    for _ in range(5):
        code = (await world.get("/v1/me")).json["page_url"].partition("#login=")[2]
        assert (await world.post("/v1/session", {"code": code})).status == 201
    sessions = [one for one in (await world.get("/v1/tokens")).json["items"] if one["kind"] == "session"]
    assert len(sessions) == 3, "the oldest ended"
    assert world.context.sign_in.redeem(others) is not None, "nobody's links are pushed out by another's"
