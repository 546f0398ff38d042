"""The OpenAPI 3.1 document, made from the route table and the types that decode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from leptond import __version__, schema
from leptond.api.http.routing import Route
from leptond.core.access.policies import NEEDED
from leptond.schema.descriptions import ABOUT, EXAMPLES, about


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the whole document as JSON values."""
    shapes = [schema.Problem]
    for route in routes:
        shapes += [one for one in (route.body, route.query) if one is not None]
        if route.answer is not None and route.media == "application/json":
            shapes.append(route.answer)
    schemas, components = msgspec.json.schema_components(shapes, ref_template="#/components/schemas/{name}")
    for name, component in components.items():
        for field, part in component.get("properties", {}).items():
            _describe(part, about(name, field))
        if name in EXAMPLES:
            component["examples"] = [EXAMPLES[name]]
    of = {id(shape): schema for shape, schema in zip(shapes, schemas, strict=True)}
    queries = {route.query.__name__ for route in routes if route.query is not None}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leptond",
            "version": __version__,
            "summary": "A GPU scheduler for one machine",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8370"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name not in queries},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, of: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route, of),
    }
    operation["x-policy"] = str(route.policy)
    if NEEDED[route.policy] is None:
        operation["security"] = []
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": ABOUT[f"path.{name}"],
            "schema": {"type": "string"},
        }
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    if route.query is not None:
        shape = components[route.query.__name__]
        parameters += [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": ABOUT[f"query.{name}"],
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in shape["properties"].items()
        ]
    parameters += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.headers.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": _body(route, of)},
        }
    return operation


def _describe(part: dict[str, Any], text: str | None) -> None:
    """Describe a property; what its type says of the values follows what the field means."""
    if text is not None:
        own = part.get("description")
        part["description"] = f"{text} {own.rstrip('.')}." if own else text


def _body(route: Route, of: dict[int, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": of[id(route.body)]}
    if route.body.__name__ in EXAMPLES:
        content["example"] = EXAMPLES[route.body.__name__]
    return content


_EVENT = {
    "type": "object",
    "description": "A server-sent event; `data` is JSON.",
    "properties": {
        "id": {"type": "string", "description": "Where to resume, as Last-Event-ID."},
        "event": {"type": "string", "description": "The type of the event."},
        "data": {"type": "string", "description": "What belongs to it, as JSON."},
    },
}


def _common_errors(route: Route) -> set[int]:
    """Return the errors that middleware and decoding may answer on any route: an unreadable request, an
    unexpected body or parameter, no credentials, a wrong host, too many wrong tokens, not ready."""
    if NEEDED[route.policy] is None:
        return {400, 413, 422}
    common = {400, 401, 403, 413, 421, 422, 429, 503}
    if not route.streams:
        common.add(408)
    if route.body is not None:
        common.add(415)
    return common


def _responses(route: Route, of: dict[int, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    if route.answer is not None:
        schema = of[id(route.answer)] if route.media == "application/json" else {"type": "string"}
        if route.media == "text/event-stream":
            schema = _EVENT
        good["content"] = {route.media: {"schema": schema}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses = {str(route.status): good}
    for status in route.also:
        content = (
            {}
            if status == HTTPStatus.NOT_MODIFIED
            else {key: good[key] for key in ("content",) if key in good}
        )
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **content}
    for status in sorted({*route.errors, *_common_errors(route)}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return responses
