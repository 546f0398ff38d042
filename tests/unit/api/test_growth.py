"""The work of a request grows no faster than the request: every route gets each kind of input twice, the
second time twice as large, and may take twice the processor time, not four times.

Processor time, not the clock: other programs on the machine do not count. What is measured is large enough
that work which grows with the square takes seconds."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import inspect

from leptond.api.http import decoding
from leptond.api.http.decoding import info_of
from leptond.api.http.routing import Route
from leptond.api.metrics.exposition import Metrics
from leptond.api.server import all_routes
from leptond.config import HttpSettings
from leptond.schema.descriptions import EXAMPLES

ROUTES = [route for route in all_routes(Metrics()) if "backup" not in route.path]
GROWTH = 3.0
"""What is linear takes about 2 times as long, what grows with the square 4 times."""

SLACK_S = 0.06
"""Less than this says nothing on a busy machine."""

TEXTS: dict[str, Callable[[int], str]] = {
    "letters": lambda n: "a" * n,
    "digits and a letter": lambda n: "1" * n + "x",
    "commas": lambda n: "1," * (n // 2),
    "words with commas": lambda n: "pending," * (n // 8),
    "dots": lambda n: "log:1" + ".." * (n // 2) + " ",
    "braces": lambda n: "{a" * (n // 2),
    "percent signs": lambda n: "/%" * (n // 2) + "x",
    "ranges": lambda n: "0-9:2," * (n // 6),
    "pointers": lambda n: " - at `$" * (n // 8),
    "parentheses": lambda n: "(" * n,
    "spaces": lambda n: " " * n + "x",
    "equal signs": lambda n: "=" * n,
    "backslashes": lambda n: "\\" * n,
}


class Case(NamedTuple):
    """An input that grows: `make(n)` has about `n` bytes."""

    name: str
    make: Callable[[int], Any]


@pytest.fixture
def settings(settings):
    return msgspec.structs.replace(
        settings, http=HttpSettings(submits_per_s=1e9, submit_burst=1_000_000, request_timeout_s=120.0)
    )


def path_of(route: Route, value: str = "1") -> str:
    """The path of a route with its parameters filled in."""
    path = route.path
    for name in ("ref", "index", "id", "name", "slug"):
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{kind}", "user").replace("{scope}", "user")


def texts_for(number: int, every: bool) -> Iterator[tuple[str, Callable[[int], str]]]:
    """All texts, or one of them, another from field to field."""
    names = list(TEXTS)
    for name in names if every else [names[number % len(names)]]:
        yield name, TEXTS[name]


def grown(kind: inspect.Type, number: int, every: bool, nested: bool = False) -> Iterator[Case]:
    """Values of a type, or nearly, that grow. `nested`: in another one."""
    if isinstance(kind, inspect.Metadata):
        yield from grown(kind.type, number, every, nested)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from grown(one, number, every, nested)
    elif isinstance(kind, inspect.StrType):
        for name, text in texts_for(number, every):
            yield Case(name, text)
    elif isinstance(kind, inspect.ListType):
        for inner in list(grown(kind.item_type, number, every, nested))[: None if every else 1]:
            yield Case(f"a list of one with {inner.name}", lambda n, make=inner.make: [make(n)])
            yield Case(f"a list of many with {inner.name}", lambda n, make=inner.make: [make(30)] * (n // 40))
        yield Case("a list of numbers", lambda n: list(range(n // 6)))
        yield Case("a list of texts", lambda n: [str(i) for i in range(n // 8)])
    elif isinstance(kind, inspect.DictType):
        yield Case("many names", lambda n: {f"k{i}": "v" for i in range(n // 12)})
        for inner in list(grown(kind.value_type, number, every, nested))[: None if every else 1]:
            yield Case(f"a name with {inner.name}", lambda n, make=inner.make: {"lr": make(n)})
        for name, text in texts_for(number, every):
            yield Case(f"a name of {name}", lambda n, make=text: {make(n): "v"})
    elif isinstance(kind, inspect.StructType):
        example = EXAMPLES.get(kind.cls.__name__, {})
        fields = kind.fields if every or not nested else kind.fields[:3]
        for position, field in enumerate(fields):
            for inner in grown(field.type, number + position, every, nested=True):
                yield Case(
                    f"{field.encode_name}: {inner.name}",
                    lambda n, name=field.encode_name, make=inner.make: {**example, name: make(n)},
                )


def bodies_of(route: Route, every: bool) -> Iterator[Case]:
    """Bodies of a route that grow, as JSON."""
    for case in grown(info_of(route.body), sum(map(ord, route.path)), every):
        yield Case(f"body, {case.name}", lambda n, make=case.make: json.dumps(make(n)).encode())
    yield Case("body, unknown names", lambda n: json.dumps({f"k{i}": 1 for i in range(n // 12)}).encode())
    yield Case(
        "body, a name twice",
        lambda n: b"{" + b",".join(b'"k%d":1' % i for i in range(n // 12)) + b',"k%d":1}' % (n // 12 - 1),
    )
    yield Case("body, nested lists", lambda n: b"[" * (n // 2) + b"]" * (n // 2))
    yield Case("body, nested objects", lambda n: b'{"a":' * (n // 6) + b"1" + b"}" * (n // 6))
    yield Case("body, a long number", lambda n: b'{"argv": ' + b"1" * n + b"}")
    yield Case("body, a long fraction", lambda n: b'{"argv": 0.' + b"1" * n + b"}")
    yield Case("body, escapes", lambda n: b'{"' + b"\\u0041" * (n // 6) + b'": 1}')
    yield Case("body, spaces", lambda n: b" " * n)
    yield Case("body, no JSON", lambda n: b"{" * n)


def heads_of(route: Route, every: bool) -> Iterator[tuple[Case, str]]:
    """Queries, headers and paths that grow: the case makes the part, the text says which one it is."""
    number = sum(map(ord, route.path))
    names = list(route.query.__struct_fields__) if route.query is not None else ["x"]
    for position, name in enumerate(names):
        for text, make in texts_for(number + position, every):
            yield Case(f"query {name}, {text}", make), name
    yield Case("query, many names", lambda n: "&".join(f"k{i}=1" for i in range(n // 8))), "?"
    for position, name in enumerate((*route.headers, "Accept", "Authorization", "Cookie")):
        for text, make in texts_for(number + position, every):
            yield Case(f"header {name}, {text}", make), f"{name}:"
    if "{" in route.path:
        for text, make in texts_for(number, every):
            yield Case(f"path, {text}", make), "/"


async def took(world, send) -> float:
    """Processor time of a request."""
    before = time.process_time()
    answer = await send()
    found = time.process_time() - before
    assert answer.status < 500, answer.data
    return found


async def measure(world, name: str, make, small: int, looks: int = 5) -> str | None:
    """What is wrong with the growth of an input, in all looks; None: nothing."""
    first = second = 0.0
    for _ in range(looks):
        first, second = await took(world, make(small)), await took(world, make(small * 2))
        if second <= first * GROWTH + SLACK_S:
            return None
    return f"{name}: {first * 1000:.0f} ms, twice as large {second * 1000:.0f} ms"


async def look(world, route: Route, *, every: bool) -> list[str]:
    """The inputs of a route for which its work grows too fast."""
    wrong = []
    if route.body is not None:
        for case in bodies_of(route, every):

            def body(n, case=case):
                data = case.make(n)
                return lambda: world.request(route.method, path_of(route), data)

            wrong.append(await measure(world, case.name, body, 100_000))
    for case, where in heads_of(route, every):

        def head(n, case=case, where=where):
            text = case.make(n)
            path, headers = path_of(route), {"Accept": "application/json"}
            if where == "?":
                path += f"?{text}"
            elif where == "/":
                path = path_of(route, urllib.parse.quote(text[: n // 3], safe=",:."))
            elif where.endswith(":"):
                headers[where[:-1]] = text
            else:
                path += f"?{where}={urllib.parse.quote(text[: n // 3], safe=',:.')}"
            return lambda: world.request(route.method, path, headers=headers)

        wrong.append(await measure(world, case.name, head, 3_500))
    return [one for one in wrong if one is not None]


async def all_of(world, routes, *, every: bool) -> list[str]:
    found = []
    for route in routes:
        found += [f"{route.method} {route.path}, {one}" for one in await look(world, route, every=every)]
    return found


def known(route: Route) -> str:
    return f"{route.method} {route.path}"


async def test_work_grows_no_faster_than_a_head(world):
    assert await all_of(world, [route for route in ROUTES if route.body is None], every=False) == []


async def test_work_grows_no_faster_than_a_body(world):
    routes = {route.body: route for route in ROUTES if route.body is not None}
    assert await all_of(world, routes.values(), every=False) == []


async def test_work_that_grows_with_the_square_is_found(world, monkeypatch):
    def slow(pairs):
        names = [name for name, _ in pairs]
        assert all(names.count(name) for name in names)
        return dict(pairs)

    monkeypatch.setattr(decoding, "_no_duplicates", slow)

    def body(n):
        data = json.dumps({f"k{i}": 1 for i in range(n // 12)}).encode()
        return lambda: world.request("POST", "/v1/gpus/0/drain", data)

    assert await measure(world, "names", body, 40_000, looks=1) is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiohttp's advice to clients
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("route", ROUTES, ids=known)
async def test_work_grows_no_faster_than_any_request(world, route):
    assert await look(world, route, every=True) == []
