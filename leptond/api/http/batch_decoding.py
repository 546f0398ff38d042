"""Batches decoded: members whose text is the same are read once, and are one value."""

from __future__ import annotations

from typing import Any

import msgspec

from leptond import schema
from leptond.api.http.decoding import MAX_DEPTH, check_json, decode_body
from leptond.base.errors import Refused
from leptond.core.jobs.model import MAX_BATCH, JobSpec

_NESTED = 2
"""Levels of JSON above a member: the body's object, and the list in it."""

_FRAMES = ((b'{"jobs":[', b","), (b'{"jobs": [', b", "))
"""How JSON writers begin a batch, and what they put between its members."""


class _Texts(msgspec.Struct, forbid_unknown_fields=True):
    jobs: list[msgspec.Raw]


_texts = msgspec.json.Decoder(_Texts)
_spec = msgspec.json.Decoder(JobSpec)


def decode_batch(decoder: msgspec.json.Decoder[Any], data: bytes, most: int) -> Any:
    """Return a batch as :func:`leptond.api.http.decoding.decode_body` does, and raise what it raises."""
    specs = _specs_of(data, most)
    return schema.Batch(jobs=specs) if specs is not None else decode_body(decoder, data, most)


def _specs_of(data: bytes, most: int) -> list[JobSpec] | None:
    """Return the members of a batch in which many are the same; None for any other body, good or bad."""
    try:
        texts = [bytes(raw) for raw in _texts.decode(data).jobs]
    except (msgspec.MsgspecError, ValueError):
        return None
    distinct = dict.fromkeys(texts)
    if not 0 < len(texts) <= MAX_BATCH or len(distinct) * 2 > len(texts):
        return None
    # written in any other way it is read as a whole: a key that stands twice would not be seen here
    if not any(data == begin + between.join(texts) + b"]}" for begin, between in _FRAMES):
        return None
    counts: dict[bytes, int] = {}
    specs: dict[bytes, JobSpec] = {}
    try:
        for text in distinct:
            counts[text] = check_json(text, most, depth=MAX_DEPTH - _NESTED)[1]
            specs[text] = _spec.decode(text)
    except (Refused, msgspec.MsgspecError, ValueError):
        return None
    if 1 + len(texts) + sum(counts[text] for text in texts) > most:
        return None
    return [specs[text] for text in texts]
