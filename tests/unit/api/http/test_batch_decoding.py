"""Batches decoded: as one body, whether their members are the same or not."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond import schema
from leptond.api.http import batch_decoding, decoding
from leptond.api.http.batch_decoding import decode_batch
from leptond.base.errors import Refused

DECODER = msgspec.json.Decoder(schema.Batch)
MOST = 400
DEEP = "[" * 40 + "]" * 40
JOBS = (
    '{"argv":["true"]}',
    '{"argv":["true"],"gpus":1,"env":{"A":"1"}}',
    '{"argv":["true"],"gpus":1,"gpus":2}',
    '{"argv":["true"],"env":{"A":"1","A":"2"}}',
    '{"argv":["true"],"gpus":NaN}',
    '{"argv":["true"],"gpus":-1}',
    '{"argv":[],"nonsense":1}',
    '{"argv":["true"],"begin_at":"yesterday"}',
    f'{{"argv":["true"],"params":{DEEP}}}',
    '{"argv": ["a", "b"] }',
    "1",
    "",
)
FRAMES = (
    '{{"jobs":[{}]}}',
    '{{"jobs": [{}]}}',
    ' {{"jobs":[{}]}}',
    '{{"jobs":[{}],"jobs":[]}}',
    '{{"jobs":[],"jobs":[{}]}}',
    '{{"jobs":[{}],"x":1}}',
    '{{"jobs":[{}]}}]',
    "[{}]",
)


def outcome(decode, data):
    try:
        return decode(DECODER, data, MOST)
    except Refused as refusal:
        return (type(refusal), str(refusal), [(one.pointer, one.message) for one in refusal.faults])


@given(
    st.lists(st.sampled_from(JOBS[:2] * 4 + JOBS), max_size=5),
    st.integers(1, 60),
    st.sampled_from(FRAMES[:2] * 4 + FRAMES),
    st.sampled_from([",", ", ", " ,", ",,"]),
)
def test_a_batch_is_decoded_as_any_body(some, times, frame, between):
    data = frame.format(between.join(some * times)).encode()
    assert outcome(decode_batch, data) == outcome(decoding.decode_body, data)


@pytest.mark.parametrize("count", [399 // 3, 399 // 3 + 1])
def test_values_are_counted_in_all_members(count):
    data = b'{"jobs":[' + b",".join([b'{"argv":["true"]}'] * count) + b"]}"  # 3 values each, and the list
    assert outcome(decode_batch, data) == outcome(decoding.decode_body, data)
    assert isinstance(outcome(decode_batch, data), schema.Batch) == (count * 3 + 1 <= MOST)


def test_members_with_the_same_text_are_read_once(monkeypatch):
    read = []
    inner = decoding.check_json
    monkeypatch.setattr(batch_decoding, "check_json", lambda *a, **b: (read.append(a[0]), inner(*a, **b))[1])
    jobs = [{"argv": ["true"]}, {"argv": ["true"], "name": "x"}, *[{"argv": ["true"]}] * 8]
    found = decode_batch(DECODER, json.dumps({"jobs": jobs}).encode(), MOST)
    assert len(read) == 2
    assert found.jobs[0] is found.jobs[2]
    assert [one.name for one in found.jobs[:3]] == [None, "x", None]
