"""Routes as values, behind a real server."""

import json

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from leptond.api.http.context import CONTEXT
from leptond.api.http.identity import RIGHTS
from leptond.api.http.routing import LARGE_BYTES, Reply, Table, handler_of, respond
from leptond.base.errors import Refused
from leptond.config import HttpSettings, Settings
from leptond.core.access.caller import Caller
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Rights
from leptond.core.access.roles import Role
from leptond.core.access.visible import Visible

ADA = Caller(user="ada", uid=1, role=Role.USER)


class Body(msgspec.Struct):
    number: int = 7
    text: str = ""


class Query(msgspec.Struct):
    limit: int = 3


class Stand:
    """What handlers read of the context."""

    settings = Settings(http=HttpSettings(max_body_bytes=2 * LARGE_BYTES, max_batch_bytes=4 * LARGE_BYTES))


@web.middleware
async def as_ada(request, handler):
    request[RIGHTS] = Rights(caller=ADA, visible=Visible(user="ada"))
    try:
        return await handler(request)
    except Refused as refusal:
        return web.json_response({"slug": refusal.slug, "pointer": refusal.pointer}, status=refusal.status)


@pytest.fixture
async def ask():
    """`ask(data, path=..., **options)` answers with (status, JSON)."""
    table = Table("tests")

    @table.route("POST", "/{name}", Policy.SUBMIT, body=Body, body_optional=True, query=Query, status=202)
    async def one(call):
        """Do one thing.

        More words."""
        assert call.caller == ADA
        return [call.path("name"), call.body.number, call.query.limit, len(call.raw)]

    @table.route("POST", "/large/it", Policy.SUBMIT, body=Body, large_body=True)
    async def large(call):
        """Take much."""
        return len(call.body.text)

    @table.route("GET", "/bare/it", Policy.LOOK)
    async def bare(call):
        """Take nothing."""
        return Reply(None, status=204, headers={"X-It": "yes"})

    assert (table.routes[0].tag, table.routes[0].summary) == ("tests", "Do one thing.")
    app = web.Application(middlewares=[as_ada])
    app[CONTEXT] = Stand()
    for route in table.routes:
        app.router.add_route(route.method, route.path, handler_of(route))
    async with TestClient(TestServer(app)) as client:

        async def call(data=None, *, path="/x", method="POST", kind="application/json", chunked=False):
            if chunked:
                whole = data

                async def parts():
                    for at in range(0, len(whole), 50_000):
                        yield whole[at : at + 50_000]

                data = parts()
            headers = {"Content-Type": kind} if data is not None else {}
            async with client.request(method, path, data=data, headers=headers) as response:
                text = await response.read()
                return response.status, json.loads(text) if text else dict(response.headers)

        yield call


async def test_body_path_and_query_reach_the_handler_decoded(ask):
    assert await ask(b'{"number": 5}', path="/a?limit=9") == (202, ["a", 5, 9, 13])


async def test_a_body_that_may_be_left_out_has_its_defaults(ask):
    assert await ask(path="/a") == (202, ["a", 7, 3, 0])


@pytest.mark.parametrize(
    ("data", "options", "answer"),
    [
        (b"{}", {"kind": "text/plain"}, (415, "wrong-media-type", None)),
        (b"{}", {"path": "/x?limit=1&limit=2"}, (400, "bad-request", None)),
        (b"{}", {"path": "/x?limit=one"}, (422, "invalid", "/limit")),
        (b'{"number": "one"}', {}, (422, "invalid", "/number")),
        (b"{", {}, (400, "bad-request", None)),
        (b"{}", {"path": "/bare/it", "method": "GET"}, (400, "bad-request", None)),
        (None, {"path": "/bare/it?a=1", "method": "GET"}, (422, "invalid", "/a")),
    ],
)
async def test_what_does_not_fit_is_refused_before_the_handler(ask, data, options, answer):
    status, found = await ask(data, **options)
    assert (status, found["slug"], found["pointer"]) == answer


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_however_it_is_sent(ask, chunked):
    def text(size):
        return b'{"text": "' + b"x" * (size - 12) + b'"}'

    assert (await ask(text(2 * LARGE_BYTES), chunked=chunked))[0] == 202
    assert (await ask(text(2 * LARGE_BYTES + 1), chunked=chunked))[0] == 413
    assert await ask(text(4 * LARGE_BYTES), path="/large/it", chunked=chunked) == (200, 4 * LARGE_BYTES - 12)
    assert (await ask(text(4 * LARGE_BYTES + 1), path="/large/it", chunked=chunked))[0] == 413


async def test_an_answer_may_have_a_status_and_headers_of_its_own(ask):
    status, headers = await ask(path="/bare/it", method="GET")
    assert (status, headers["X-It"]) == (204, "yes")


def test_a_response_of_a_handler_goes_as_it_is():
    made = web.Response(text="x")
    assert respond(made, 200) is made
    assert json.loads(respond({"a": 1}, 201).body) == {"a": 1}
    assert respond({"a": 1}, 201).status == 201
