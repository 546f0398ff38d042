"""Every field and parameter is described, and the examples are what the daemon takes."""

import msgspec
import pytest
from openapi_spec_validator import validate

from leptond.api.http.decoding import decode_body
from leptond.api.http.openapi import document
from leptond.api.metrics.exposition import Metrics
from leptond.api.server import all_routes
from leptond.schema.descriptions import ABOUT, EXAMPLES

ROUTES = all_routes(Metrics())
DOCUMENT = document(ROUTES)


def test_every_field_is_described():
    fields = {
        f"{kind}.{name}": part.get("description")
        for kind, shape in DOCUMENT["components"]["schemas"].items()
        for name, part in shape.get("properties", {}).items()
    }
    assert len(fields) > 500
    assert [name for name, text in fields.items() if not text] == []


def test_every_parameter_is_described():
    parameters = [
        (path, one["name"], one.get("description"))
        for path, ways in DOCUMENT["paths"].items()
        for way in ways.values()
        for one in way.get("parameters", [])
    ]
    assert [(path, name) for path, name, text in parameters if not text] == []


def test_nothing_is_described_that_is_not_there():
    known = {"JobSpec"} | set(DOCUMENT["components"]["schemas"])
    names = {
        name for shape in DOCUMENT["components"]["schemas"].values() for name in shape.get("properties", {})
    }
    for key in ABOUT:
        kind, _, name = key.rpartition(".")
        if kind in ("query", "path"):
            continue
        assert name in names, key
        assert not kind or kind in known, key


def test_the_document_is_valid():
    validate(DOCUMENT)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_example_is_taken(kind):
    (body,) = {route.body for route in ROUTES if route.body is not None and route.body.__name__ == kind}
    decode_body(msgspec.json.Decoder(body), msgspec.json.encode(EXAMPLES[kind]))
    assert DOCUMENT["components"]["schemas"][kind]["examples"] == [EXAMPLES[kind]]
