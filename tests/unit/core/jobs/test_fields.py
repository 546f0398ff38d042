"""The table of fields against what is declared elsewhere: the schema of the database and the structs."""

from __future__ import annotations

import doctest

import msgspec
import pytest

from leptond import schema
from leptond.api.routes.jobs import ListQuery
from leptond.core.jobs import fields
from leptond.core.jobs.field import Field, Kind
from leptond.core.jobs.fields import BY_NAME, FIELDS
from leptond.core.jobs.model import DEFAULT_QUEUE, Job, JobSpec
from leptond.docs_build import page_fields
from leptond.store.database import rows
from tests.simulation.store import database


def default_of(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return None if field.default is msgspec.NODEFAULT else field.default


def test_each_name_has_one_row() -> None:
    assert len(BY_NAME) == len(FIELDS)
    assert doctest.testmod(fields).failed == 0


def test_each_stored_column_has_a_row_and_each_such_row_a_column() -> None:
    db = database()
    found = {row["name"] for row in db.execute("PRAGMA table_info(jobs)")}
    db.close()
    assert found == set(fields.names(column=True))


def test_a_job_has_the_columns_but_for_the_order_keys() -> None:
    keys = set(fields.names(kind=Kind.ORDER_KEY))
    assert set(Job.__struct_encode_fields__) == set(fields.names(column=True)) - keys


def test_a_spec_has_what_is_asked_for_with_its_defaults() -> None:
    declared = {one.name: default_of(one) for one in msgspec.structs.fields(JobSpec)}
    assert declared == {field.name: field.default for field in FIELDS if field.asked}


def test_the_apis_job_has_what_is_shown() -> None:
    assert set(fields.names(shown=True)) <= set(schema.Job.__struct_fields__)
    assert {field.name for field in FIELDS if field.label is not None and not field.shown} <= set(
        JobSpec.__struct_fields__
    )


def test_what_may_be_edited_is_stored_and_asked_for() -> None:
    editable = [field for field in FIELDS if field.editable is not None]
    assert all(field.asked and field.column for field in editable)
    assert list(schema.JobPatch.__struct_fields__) == [field.name for field in editable]
    assert all(field.editable for field in FIELDS if field.option is not None and field.option.edit)


@pytest.mark.parametrize(
    "field", [one for one in FIELDS if one.editable is not None], ids=lambda one: one.name
)
def test_a_patch_may_take_away_only_what_may_be_missing(field: Field) -> None:
    def decode() -> None:
        msgspec.json.decode(msgspec.json.encode({field.name: None}), type=schema.JobPatch)

    if field.nullable:
        decode()
    else:
        with pytest.raises(msgspec.ValidationError):
            decode()


def test_lists_are_narrowed_by_each_filter() -> None:
    assert {field.name for field in fields.FILTERS} < set(ListQuery.__struct_fields__)
    assert all(field.column and field.kind is Kind.TEXT for field in fields.FILTERS)
    longest = {field.name: field.longest for field in fields.FILTERS}
    for name, most in longest.items():
        msgspec.convert({name: "x" * most}, ListQuery)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({name: "x" * (most + 1)}, ListQuery)


def test_what_the_store_reads_as_json_is_what_the_table_says() -> None:
    wanted = {one.name for one in FIELDS if one.column and one.kind in (Kind.JSON, Kind.PAIRS)}
    assert {name for name, _ in rows._JSON} == wanted


def test_the_default_queue_is_stored_where_a_spec_names_none() -> None:
    assert rows.columns_of(JobSpec(argv=["true"]))["queue"] == DEFAULT_QUEUE


def test_the_form_of_the_page_knows_each_kind_that_it_asks_for() -> None:
    known = {"text", "count", "limit", "size", "jobs", "flag"}  # VALUE in submit.js
    assert {field.kind.value for field in FIELDS if field.input is not None} <= known
    gpus = '"name": "gpus", "kind": "count", "label": "GPUs", "placeholder": "0, unless jobs.gpus says more"'
    assert f'{gpus}, "min": 0, "max": 1024' in page_fields.script()
