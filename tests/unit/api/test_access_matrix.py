"""Every route, every method and every wrong identity: nothing is done that is not allowed, nothing is told.

The cases are made from the router."""

from __future__ import annotations

import asyncio
import itertools
import json
import re

import aiohttp
import pytest

from leptond.api.metrics.exposition import Metrics
from leptond.api.server import all_routes
from leptond.config import HttpSettings, QueueSettings, Settings
from leptond.core.access.policies import NEEDED, NOT_FOR_JOBS, Policy
from leptond.core.access.roles import Role
from tests.support.access import as_caller, person

ROUTES = [route for route in all_routes(Metrics()) if route.path != "/v1/openapi.json"]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = sorted({route.path for route in ROUTES})

BODIES = {
    ("POST", "/v1/jobs"): {"argv": ["true"]},
    ("POST", "/v1/jobs:batch"): {"jobs": [{"argv": ["true"]}]},
    ("POST", "/v1/jobs:cancel"): {"jobs": ["{job}"]},
    ("POST", "/v1/jobs:hold"): {"jobs": ["{job}"]},
    ("POST", "/v1/jobs:release"): {"jobs": ["{job}"]},
    ("POST", "/v1/jobs:purge"): {"jobs": ["{ended}"]},
    ("PATCH", "/v1/jobs/{ref}"): {"priority": 5, "name": "taken"},
    ("PATCH", "/v1/arrays/{id}"): {"priority": 5, "name": "taken"},
    ("POST", "/v1/jobs/{ref}/tune"): {"values": {"lr": 1.0}},
    ("POST", "/v1/jobs/{ref}/cancel"): {},
    ("POST", "/v1/jobs/{ref}/retry"): {},
    ("POST", "/v1/arrays/{id}/cancel"): {},
    ("POST", "/v1/sweeps/{id}/cancel"): {},
    ("POST", "/v1/sweeps"): {"job": {"argv": ["true", "{x}"]}, "grid": {"x": [1, 2]}, "metric": "loss"},
    ("POST", "/v1/queue/estimate"): {"argv": ["true"]},
    ("POST", "/v1/queues"): {"name": "mine"},
    ("PATCH", "/v1/queues/{name}"): {"weight": 2},
    ("PUT", "/v1/limits/{kind}/{name}"): {"max_gpus": 9},
    ("PUT", "/v1/budgets/{scope}/{name}"): {"gpu_hours": 1},
    ("POST", "/v1/gpus/{index}/drain"): {"reason": "x"},
    ("POST", "/v1/purge"): {"older_than_s": 1},
    ("POST", "/v1/tokens"): {"name": "mine", "user": "ana", "role": "admin"},
    ("POST", "/v1/session"): {"code": "x" * 43},
}
"""Bodies that are accepted where the caller is: without a check, they would do something."""

OBJECTS = ("{ref}", "{id}")


@pytest.fixture
def settings() -> Settings:
    return Settings(
        queue=QueueSettings(cpu_slots=2),
        http=HttpSettings(listen="127.0.0.1:0", submit_burst=100_000, submits_per_s=1e6, job_metrics=True),
    )


@pytest.fixture
def no_root(monkeypatch):
    """A daemon that runs as root takes jobs of others, as one that does not would."""
    monkeypatch.setattr("leptond.core.access.run_as.must_run", lambda settings, **who: None)


class Foreign:
    """What belongs to ana, with secrets in all texts that a user can set."""

    CANARY = "canary"

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.job = self.ended = self.array = self.sweep = 0

    def secret(self, what: str) -> str:
        return f"{self.CANARY}{next(self.numbers):02d}{what}"

    def spec(self, **more):
        s = self.secret
        return {
            "argv": ["/bin/sh", "-c", f"echo {s('argv')}", s("argument"), f"--password={s('password')}"],
            "name": s("name"),
            "project": s("project"),
            "contact": s("contact"),
            "cwd": "/tmp",
            "env": {"PLAIN": s("env"), "API_TOKEN": s("token"), s("variable").upper(): "x"},
            "labels": {s("label"): s("value"), "team": s("team")},
            "params": {s("param"): s("set")},
            "output": f"/tmp/{s('output')}.log",
            "priority": 7,
            **more,
        }


@pytest.fixture
async def foreign(world, monkeypatch, no_root):
    found = Foreign()
    with monkeypatch.context() as as_ana:
        as_caller(as_ana, world.context, person("ana", 4001))
        await world.post("/v1/queues", {"name": "open"})
        found.job = (await submitted(world, found.spec(gpus=1))).get("id")
        attempt = await world.start(found.job, "GPU-0")
        directory = world.directory(found.job)
        (directory / "output.log").write_text(found.secret("log") + "\n")
        found.ended = (await submitted(world, found.spec(gpus=1))).get("id")
        ended = await world.start(found.ended, "GPU-1")
        await world.finish(ended, 3)
        found.waiting = (await submitted(world, found.spec(gpus=2, hold=True))).get("id")
        found.array = (await submitted(world, found.spec(array="0-4", hold=True)))["array_id"]
        sweep = await world.post(
            "/v1/sweeps",
            {
                "job": {k: v for k, v in found.spec(hold=True).items() if k != "params"},
                "grid": {found.secret("knob"): [1, 2]},
                "metric": "loss",
            },
        )
        assert sweep.status == 201, sweep.data
        found.sweep = sweep.json["id"]
        scripted = found.spec(script=f"#!/bin/sh\necho {found.secret('script')}\n", hold=True)
        found.script = (await submitted(world, scripted)).get("id")
        await world.post(f"/v1/jobs/{found.waiting}/cancel", {"reason": found.secret("reason")})
    assert attempt
    count = next(found.numbers)
    assert count >= 64, f"{count} canaries"
    return found


async def submitted(world, spec):
    answer = await world.post("/v1/jobs", spec)
    assert answer.status == 201, answer.data
    return answer.json


def concrete(path: str, foreign: Foreign) -> list[str]:
    """The paths of a route with the objects of another in place of its parameters."""
    refs = [
        str(foreign.job),
        str(foreign.ended),
        str(foreign.script),
        f"{foreign.array}_0",
        f"{foreign.array}_3",
    ]
    ids = [str(foreign.array), str(foreign.sweep)]
    fixed = {"index": "0", "slug": "invalid", "name": "default", "kind": "user", "scope": "user"}
    text = re.sub(r"\{(index|slug|name|kind|scope)\}", lambda m: fixed[m[1]], path)
    if "{ref}" in text:
        return [text.replace("{ref}", ref) for ref in refs]
    if "{id}" in text:
        return [text.replace("{id}", one) for one in ids]
    return [text]


def body_of(method: str, path: str, foreign: Foreign) -> bytes | None:
    body = BODIES.get((method, path))
    if body is None:
        return None
    text = json.dumps(body).replace('"{job}"', f'"{foreign.job}"').replace('"{ended}"', f'"{foreign.ended}"')
    return text.encode()


async def state(world):
    """All that may have changed, but for the time of last use."""
    return await world.everything()


async def over_tcp(world, client, method, path, body, headers):
    kind = {"Content-Type": "application/json"} if body is not None else {}
    async with client.request(method, path, data=body, headers={**kind, **headers}) as answer:
        return answer.status, await answer.read(), dict(answer.headers)


def cases_of(methods):
    """Every path with these methods and those that the router knows."""
    known = {(route.path, route.method) for route in ROUTES}
    return sorted(known | set(itertools.product(PATHS, methods)))


@pytest.mark.parametrize(
    "methods", [pytest.param(("DELETE",), id="few"), pytest.param(METHODS, id="all", marks=pytest.mark.slow)]
)
async def test_no_wrong_identity_has_any_effect_over_tcp(world, foreign, methods):
    registry = world.context.registry
    made = [
        await registry.make("token", "t", "bo", None, Role.ADMIN, lifetime_s=100.0, by="root")
        for _ in range(2)
    ]
    expired, _ = (await registry.make("token", "t", "bo", None, Role.ADMIN, lifetime_s=-1.0, by="root"))[::-1]
    await registry.revoke(made[0][0], by="root")
    _, half = await registry.make("session", "page", "bo", None, Role.ADMIN, lifetime_s=100.0, by="bo")
    cookie = f"leptond_{world.api.port}={half[:27]}"
    good = {"Authorization": f"Bearer {made[1][1]}"}
    wrong = {
        "none": ({}, 401),
        "empty": ({"Authorization": "Bearer "}, 401),
        "basic": ({"Authorization": "Basic cm9vdDpyb290"}, 401),
        "revoked": ({"Authorization": f"Bearer {made[0][1]}"}, 401),
        "expired": ({"Authorization": f"Bearer {expired}"}, 401),
        "cookie alone": ({"Cookie": cookie}, 401),
        "key alone": ({"X-Leptond-Session": half[27:]}, 401),
        "evil host": ({**good, "Host": "evil.example"}, 421),
        "evil origin": ({**good, "Origin": "https://evil.example"}, 403),
        "other port": ({**good, "Origin": "http://127.0.0.1:1"}, 403),
        "null origin": ({**good, "Origin": "null"}, 403),
        "cross site": ({**good, "Sec-Fetch-Site": "cross-site"}, 403),
        "same site": ({**good, "Sec-Fetch-Site": "same-site"}, 403),
    }
    policies = {(route.method, route.path): route.policy for route in ROUTES}
    before, cases = await state(world), 0
    async with aiohttp.ClientSession(f"http://127.0.0.1:{world.api.port}") as client:
        for path, method in cases_of(methods):
            policy = policies.get((method, path)) or (
                policies.get(("GET", path)) if method == "HEAD" else None
            )
            one = concrete(path, foreign)[0]
            for name, (headers, expected) in wrong.items():
                if expected == 401 and policy is not None and NEEDED[policy] is None:
                    continue  # open to all
                world.context.wrong_secrets._failures.clear()
                body = body_of(method, path, foreign)
                status, data, _ = await over_tcp(world, client, method, one, body, headers)
                assert status == expected, (name, method, one, status, data)
                assert b"canary" not in data
                cases += 1
    assert await state(world) == before
    assert cases > 500 * len(methods)


def allowed(policy: Policy, caller) -> bool:
    needed = NEEDED[policy]
    if needed is None:
        return True
    return caller.role.covers(needed) and not (caller.job is not None and policy in NOT_FOR_JOBS)


CALLERS = {
    "viewer": person("bo", 4002, Role.VIEWER),
    "user": person("bo", 4002),
    "job": person("bo", 4002, job=1),
    "operator": person("cy", 4003, Role.OPERATOR),
}


@pytest.mark.parametrize("name", CALLERS)
async def test_no_role_does_more_than_its_policy_or_reads_what_is_anothers(world, foreign, monkeypatch, name):
    caller = CALLERS[name]
    as_caller(monkeypatch, world.context, caller)
    operator = caller.role is Role.OPERATOR
    owners = ("/log", "/script", "/metrics", "/tune", "/log/stream", "/retry")
    for route in ROUTES:
        before = await state(world)
        for path in concrete(route.path, foreign):
            answer = await asked(world, route, path, body_of(route.method, route.path, foreign))
            ok = allowed(route.policy, caller)
            where = (route.method, path, answer.status, answer.data[:300])
            assert answer.status < 500, where
            if not ok:
                assert answer.status == 403, where
            elif operator and "{ref}" in route.path and route.path.endswith(owners):
                assert answer.status in (403, 404), where
            elif not operator and any(mark in route.path for mark in OBJECTS):
                assert answer.status == 404, where
            told = answer.data
            if operator:
                told = re.sub(rb"canary\d\d(name|project)", b"", told)
            assert b"canary" not in told.lower(), where
        after = await state(world)
        changed = {table for table in after if after[table] != before[table]}
        if not allowed(route.policy, caller) or route.policy in (Policy.LOOK, Policy.OPEN, Policy.SIGN_IN):
            assert not changed, (route.method, route.path, changed)
        elif not operator:
            theirs = {foreign.job, foreign.ended, foreign.script, foreign.waiting}
            rows = [row for row in after["jobs"] if row[0] in theirs]
            assert rows == [row for row in before["jobs"] if row[0] in theirs], (route.method, route.path)
            assert not changed & {"queues", "gpus"}, (route.method, route.path, changed)


async def asked(world, route, path, body):
    if route.streams and route.method == "GET":
        async with asyncio.timeout(30), world.client.get(f"http://leptond{path}") as response:
            data = await response.content.read(65536) if response.status == 200 else await response.read()
            return Told(response.status, data)
    return await world.request(route.method, path, body)


class Told:
    def __init__(self, status, data):
        self.status, self.data = status, data


QUERIES = (
    "/v1/jobs?limit=1000",
    "/v1/jobs?order=queue&limit=1000",
    "/v1/jobs?order=queue&whole=true&limit=1000",
    "/v1/jobs?user=ana",
    "/v1/jobs?state=failed,cancelled,running",
    "/v1/events?limit=1000",
    "/v1/events?job={job}",
    "/v1/status",
    "/v1/gpus",
    "/v1/plan",
    "/v1/plan?policy=fifo",
    "/v1/timeline",
    "/v1/usage",
    *(f"/v1/usage?group_by={by}" for by in ("user", "project", "queue", "job", "gpu")),
    "/v1/shares",
    "/v1/budgets",
    "/v1/sweeps",
    "/v1/queues",
    "/metrics",
    "/v1/jobs/{job}?wait_s=1",
    "/v1/arrays/{array}",
    "/v1/sweeps/{sweep}",
    "/v1/tokens",
    "/v1/me",
)


@pytest.mark.parametrize("name", ["viewer", "user", "job"])
async def test_64_secrets_of_another_are_in_no_answer(world, foreign, monkeypatch, capsys, name):
    as_caller(monkeypatch, world.context, CALLERS[name])
    hits = []
    places = {"job": foreign.job, "array": foreign.array, "sweep": foreign.sweep}
    for path in QUERIES:
        answer = await world.get(path.format(**places))
        hits += [(path, answer.data)] if b"canary" in answer.data.lower() else []
    stream = await world.stream("/v1/events?since=0")
    events = await stream.take(4)
    stream.close()
    hits += [("stream", events)] if "canary" in json.dumps(events) else []
    assert hits == []
    assert "canary" not in "".join(capsys.readouterr()), "nor in what is logged"


async def test_the_owner_is_told_the_64_secrets(world, foreign, monkeypatch):
    """The control of the test above: they are there to be found."""
    as_caller(monkeypatch, world.context, person("ana", 4001))
    told = b""
    for path in (*QUERIES, "/v1/jobs/{script}/script", "/v1/jobs/{array}_0", "/v1/jobs/{job}/log"):
        places = {
            "job": foreign.job,
            "array": foreign.array,
            "sweep": foreign.sweep,
            "script": foreign.script,
        }
        told += (await world.get(path.format(**places))).data.lower()
    found = set(re.findall(rb"canary(\d\d)", told))
    assert len(found) >= 64, sorted(set(range(64)) - {int(one) for one in found})


async def test_nothing_is_found_by_what_is_not_shown(world, foreign, monkeypatch):
    """A filter that matches a job of another finds nothing, so that no secret can be guessed by asking."""
    job = await world.get(f"/v1/jobs/{foreign.job}")
    shown = job.json
    label, value = next(iter(shown["labels"].items()))
    asked_for = {
        "name": shown["name"],
        "project": shown["project"],
        "contact": shown["contact"],
        "label": f"{label}={value}",
    }
    for caller, finds in (("user", 0), ("viewer", 0)):
        with monkeypatch.context() as patch:
            as_caller(patch, world.context, CALLERS[caller])
            for field, text in asked_for.items():
                found = await world.get(f"/v1/jobs?{field}={text}")
                assert (found.status, len(found.json["items"])) == (200, finds), (field, found.data)
            counted = await world.post("/v1/jobs:cancel", {"name": shown["name"], "dry_run": True})
            if caller == "user":
                body = counted.json
                assert (body["pending"], body["live"], body["others"], body["meanwhile"]) == (0, 0, 0, 0)
    for field, text in asked_for.items():
        assert (await world.get(f"/v1/jobs?{field}={text}")).json["items"], f"{field} finds it for its owner"


async def test_the_outline_is_what_everybody_sees(world, foreign, monkeypatch):
    as_caller(monkeypatch, world.context, CALLERS["user"])
    items = (await world.get("/v1/jobs?limit=1000")).json["items"]
    one = next(item for item in items if item["id"] == foreign.job)
    assert (one["private"], one["name"], one["user"], one["state"]) == (True, "(private)", "ana", "running")
    assert (one["gpus"], one["gpu_indices"]) == (1, [0])
    assert one["submitted_at"]
    assert one["started_at"]
    default = {"priority": 0, "labels": {}, "project": None, "contact": None, "reason": None, "version": 0}
    assert {name: one[name] for name in default} == default
    missing = await world.get("/v1/jobs/999999")
    foreign_one = await world.get(f"/v1/jobs/{foreign.job}")
    assert foreign_one.status == missing.status == 404
    told = json.dumps(foreign_one.json).replace(f"job {foreign.job}", "N").replace(f"jobs/{foreign.job}", "N")
    other = json.dumps(missing.json).replace("job 999999", "N").replace("jobs/999999", "N")
    assert told == other, "as one that does not exist"


def test_every_route_that_names_an_object_is_covered():
    assert {mark for path in PATHS for mark in re.findall(r"\{(\w+)\}", path)} <= {
        "ref", "id", "index", "slug", "name", "kind", "scope",
    }  # fmt: skip
