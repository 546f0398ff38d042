"""Requests as values."""

from __future__ import annotations

import msgspec
import pytest

from leptond import schema
from leptond.client.request import IDEMPOTENCY_KEY, Request, decoded
from tests.unit.cli.stub import make_job


def test_a_request_reads_its_answer_as_its_type() -> None:
    request = Request(method="GET", path="/v1/jobs/47", read=decoded(schema.Job))
    assert request.read(msgspec.json.encode(make_job())) == make_job()
    with pytest.raises(msgspec.ValidationError):
        request.read(b"[]")


def test_only_a_request_with_a_key_may_be_sent_twice() -> None:
    plain = Request(method="POST", path="/v1/jobs", read=bytes)
    assert not plain.has_key
    assert msgspec.structs.replace(plain, headers={IDEMPOTENCY_KEY: "a"}).has_key


def test_a_request_is_a_value() -> None:
    one = Request(method="GET", path="/v1/status", read=bytes)
    assert one == Request(method="GET", path="/v1/status", read=bytes)
    with pytest.raises(AttributeError):
        one.path = "/v1/gpus"  # type: ignore[misc]
