"""Bodies and errors of requests: what is JSON, and where an error points."""

import json

import msgspec
import pytest

from leptond import schema
from leptond.api.http.guard import without_port
from leptond.api.http.routing import check_json, invalid
from leptond.base.errors import BadRequest
from leptond.core.jobs.model import JobSpec


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"[" * 100_000,
        b"[" * 200 + b"]" * 200,
        b"\xff",
        b"{",
        b"",
    ],
)
def test_what_only_a_lenient_reader_takes_is_refused(data):
    with pytest.raises(BadRequest):
        check_json(data)


@pytest.mark.parametrize("value", [{}, [], {"a": [{"b": None}] * 3}, 1.5, "text", {"a": 1, "b": 1}])
def test_json_is_taken(value):
    check_json(json.dumps(value).encode())


def refusal(kind, value):
    with pytest.raises(msgspec.ValidationError) as found:
        msgspec.json.decode(json.dumps(value).encode(), type=kind)
    return invalid(found.value)


@pytest.mark.parametrize(
    ("kind", "value", "pointer"),
    [
        (JobSpec, {"argv": ["x"], "gpus": "two"}, "/gpus"),
        (JobSpec, {"argv": ["x", 1]}, "/argv/1"),
        (JobSpec, {"argv": ["x"], "gpuz": 1}, "/gpuz"),
        (JobSpec, [], "/"),
        (schema.NewSweep, {"job": {"argv": ["x"], "priority": "high"}}, "/job/priority"),
    ],
)
def test_an_error_points_at_its_field(kind, value, pointer):
    assert refusal(kind, value).pointer == pointer


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("localhost:8370", "localhost"),
        ("LOCALHOST", "localhost"),
        ("[::1]:8370", "[::1]"),
        ("[::1]", "[::1]"),
        ("evil.example:80", "evil.example"),
    ],
)
def test_the_port_of_a_host_does_not_count(host, found):
    assert without_port(host) == found
