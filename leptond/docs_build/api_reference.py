"""The HTTP reference in Markdown, made from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

HEAD = """\
# HTTP

Made from the OpenAPI document, which the daemon serves at `/v1/openapi.json`. Fields that end in `_s` are
seconds, in `_bytes` bytes, in `_at` times (RFC 3339, UTC). Unknown fields of a body are refused (422); be
ready for new fields in answers. Errors are `application/problem+json` (the type [Problem](#problem)).
Beside its own errors a route may answer 400 (not to be read), 401 (no token), 403, 408, 413, 415, 421 (a
wrong Host), 422 (not valid), 429 and 503 (starting or stopping). Lists come in pages: go on with
`?cursor=` and the `next_cursor` of the last page.
"""

COMMON = frozenset({"400", "401", "403", "408", "413", "415", "421", "422", "429", "503"})


def markdown(document: Schema) -> str:
    """The whole reference."""
    lines = [HEAD]
    by_tag: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    for tag in sorted(by_tag):
        lines.append(f"## {tag.capitalize()}\n")
        for method, path, operation in by_tag[tag]:
            lines += [*_operation(method, path, operation), ""]
    lines.append("## Types\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [*_type(name, schema), ""]
    return "\n".join(lines).rstrip() + "\n"


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f"### `{method} {path}`\n"
    answers = operation["responses"]
    good = next(status for status in answers if status.startswith("2"))
    content = answers[good].get("content", {})
    sentences = [f"{operation['summary']}"]
    body = operation.get("requestBody")
    if body is not None:
        what = spell(body["content"]["application/json"]["schema"])
        sentences.append(f"Body: {what}{'' if body['required'] else ', which may be left out'}.")
    media: str = next(iter(content), "")
    shape = f"`{media}`" if media else "nothing"
    if media == "application/json":
        shape = spell(content[media]["schema"])
    own = sorted(status for status in answers if status not in COMMON and not status.startswith("2"))
    sentences.append(f"Answers {good}: {shape}" + (f"; or {', '.join(own)}." if own else "."))
    yield " ".join(sentences)
    asked = [one for one in operation.get("parameters", []) if one["in"] != "path"]
    if asked:
        yield ""
        yield "| parameter | in | type |"
        yield "|---|---|---|"
        for one in asked:
            more = f": {one['description']}" if "description" in one else ""
            yield f"| `{one['name']}` | {one['in']} | {spell(one['schema'])}{more} |"


def _type(name: str, schema: Schema) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in schema:
        yield " ".join(schema["description"].replace("``", "`").split()) + "\n"
    if "properties" not in schema:
        yield f"{spell(schema)}."
        return
    yield "| field | type |"
    yield "|---|---|"
    required = schema.get("required", ())
    for field, one in schema["properties"].items():
        must = " (always)" if field in required else ""
        yield f"| `{field}` | {spell(one)}{must} |"


def spell(schema: Schema) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        parts = [spell(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(parts)) + (" or null" if _may_be_null(schema) else "")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {spell(schema.get('items', {}))}"
    if kind == "object":
        return f"object of {spell(schema['additionalProperties'])}" if _is_map(schema) else "object"
    if kind == "string":
        return {"date-time": "time"}.get(schema.get("format", ""), "string")
    return f"{kind}{_bounds(schema)}" if isinstance(kind, str) else " or ".join(kind)


def _may_be_null(schema: Schema) -> bool:
    return any(one.get("type") == "null" for one in schema["anyOf"])


def _is_map(schema: Schema) -> bool:
    return isinstance(schema.get("additionalProperties"), Mapping)


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is None and high is None:
        return ""
    above = f"over {low}" if "exclusiveMinimum" in schema else f"from {low}"
    return f" {above}" * (low is not None) + f" to {high}" * (high is not None)
