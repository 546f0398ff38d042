"""Bodies and queries of requests: what is JSON, and all that is wrong with it, in plain words."""

import datetime
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond import schema
from leptond.api.http.decoding import MAX_VALUES, check_json, decode_body, decode_query, faults_of, info_of
from leptond.api.routes.jobs import ListQuery
from leptond.base.errors import BadRequest, Invalid
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
        b"[" + b"1" * 1000 + b"]",
        b"[" + b"1" * 1000 + b".5]",
        b"[" + b"0," * MAX_VALUES + b"0]",
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
    assert check_json(json.dumps(value).encode())[0] == value


def test_of_many_keys_the_one_that_stands_twice_is_named():
    keys = [f'"k{i}": 1' for i in range(5000)]
    with pytest.raises(BadRequest, match="'k4711' stands twice"):
        check_json(f"{{{', '.join([*keys, keys[4711]])}}}".encode())


def refusal(kind, value):
    with pytest.raises(Invalid) as found:
        decode_body(msgspec.json.Decoder(kind), json.dumps(value).encode())
    return found.value


@pytest.mark.parametrize(
    ("kind", "value", "pointer", "message"),
    [
        (
            JobSpec,
            {"argv": ["x"], "gpus": -1},
            "/gpus",
            "gpus must be a whole number from 0 to 1024, not -1",
        ),
        (
            JobSpec,
            {"argv": ["x"], "gpus": "two"},
            "/gpus",
            "gpus must be a whole number from 0 to 1024, not 'two'",
        ),
        (JobSpec, {"argv": ["x", 1]}, "/argv/1", "argv[1] must be text, not 1"),
        (JobSpec, {"argv": ["x"], "gpuz": 1}, "/gpuz", "there is no field gpuz; did you mean gpus?"),
        (JobSpec, {"argv": ["x"], "zzzzzz": 1}, "/zzzzzz", "there is no field zzzzzz"),
        (JobSpec, [], "/", "the body must be an object, not a list"),
        (JobSpec, {}, "/argv", "argv is missing"),
        (JobSpec, {"argv": []}, "/argv", "argv must not be empty"),
        (
            JobSpec,
            {"argv": ["x"], "name": "lr=3e-4"},
            "/name",
            "name must be letters, digits and . _ -, beginning with a letter, a digit or _, 128 at most,"
            " not 'lr=3e-4'",
        ),
        (
            JobSpec,
            {"argv": ["x"], "time_limit_s": 0},
            "/time_limit_s",
            "time_limit_s must be a number over 0 and at most 315360000, not 0",
        ),
        (
            JobSpec,
            {"argv": ["x"], "track": ["wandbb"]},
            "/track/0",
            "track[0] must be one of tensorboard, wandb, not 'wandbb'; did you mean wandb?",
        ),
        (
            JobSpec,
            {"argv": ["x"], "begin_at": "2030-01-01T00:00:00"},
            "/begin_at",
            "begin_at must say its offset from UTC, as in 2026-12-24T18:00:00Z, not '2030-01-01T00:00:00'",
        ),
        (
            JobSpec,
            {"argv": ["x"], "params": {"lr": []}},
            "/params/lr",
            "params.lr must be a whole number or a number or text, not a list",
        ),
        (
            schema.NewSweep,
            {"job": {"argv": ["x"], "priority": "high"}},
            "/job/priority",
            "job.priority must be a whole number from -1000 to 1000, not 'high'",
        ),
        (
            schema.JobPatch,
            {"priority": None},
            "/priority",
            "priority must be a whole number from -1000 to 1000, not null",
        ),
    ],
)
def test_a_fault_is_named_with_its_field_in_plain_words(kind, value, pointer, message):
    found = refusal(kind, value)
    assert [(one.pointer, one.message) for one in found.faults] == [(pointer, message)]
    assert found.detail == message


def test_all_faults_are_named_at_once():
    found = refusal(
        schema.Batch, {"jobs": [{"argv": ["x"], "gpus": -1, "naem": "a"}, {}, {"argv": "x", "queue": 3}]}
    )
    assert [one.pointer for one in found.faults] == [
        "/jobs/0/naem",
        "/jobs/0/gpus",
        "/jobs/1/argv",
        "/jobs/2/argv",
        "/jobs/2/queue",
    ]
    assert len(refusal(JobSpec, {"argv": [1] * 1000}).faults) == 20


def test_the_message_of_a_long_name_is_short():
    assert len(refusal(JobSpec, {"argv": ["x"], " - at `$" * 10_000: 1}).detail) < 300


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["47_*", "47", "USR1", "wandb", "lr=1", "2026-01-01T00:00:00Z", "/x", "0-9"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from([*JobSpec.__struct_fields__, "gpuss", "x"])


@given(st.dictionaries(_names, _values, max_size=5), st.booleans())
def test_a_body_has_faults_if_and_only_if_it_is_refused(fields, with_argv):
    value = {**fields, "argv": ["x"]} if with_argv else fields
    faults = list(faults_of(value, info_of(JobSpec), ""))
    try:
        msgspec.json.decode(json.dumps(value).encode(), type=JobSpec)
    except msgspec.ValidationError:
        assert faults
    else:
        assert not faults


def test_a_query_has_all_its_faults_named():
    with pytest.raises(Invalid) as found:
        decode_query({"limit": "0", "statee": "x", "order": "newst"}, ListQuery)
    assert [one.message for one in found.value.faults] == [
        "there is no field statee; did you mean state?",
        "order must be one of newest, queue, not 'newst'; did you mean newest?",
        "limit must be a whole number from 1 to 1000, not 0",
    ]
    assert decode_query({"limit": "7"}, ListQuery).limit == 7


@pytest.mark.parametrize(
    "since",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00", "0001-01-01T00:00:00Z"],
)
def test_an_instant_at_the_edge_of_the_calendar_is_refused(since):
    with pytest.raises(Invalid, match="at the edge of the calendar"):
        decode_query({"since": since}, ListQuery)
    assert decode_query({"since": "2026-01-01T00:00:00Z"}, ListQuery).since == datetime.datetime(
        2026, 1, 1, tzinfo=datetime.UTC
    )
