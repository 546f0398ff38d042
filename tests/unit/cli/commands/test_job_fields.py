"""A job's fields as options."""

import pytest

from leptond.base.usage import UsageError
from leptond.cli.commands.job_fields import FILTER_HELP, asked_value, changes, pair, submit_option
from leptond.cli.framework.declare import command
from leptond.core.jobs.field import Kind
from leptond.core.jobs.fields import FILTERS, OPTIONS

BY_NAME = {field.name: field for field, _ in OPTIONS}


def of(kind):
    return next(field for field, _ in OPTIONS if field.kind is kind)


@pytest.mark.parametrize(
    ("kind", "given", "asked"),
    [
        (Kind.FLAG, True, True),
        (Kind.FLAG, False, None),
        (Kind.OFF, True, False),
        (Kind.OFF, False, None),
        (Kind.TEXTS, ("a,b", " c "), ["a", "b", "c"]),
        (Kind.TEXTS, (), None),
        (Kind.JOBS, ("3,4_1", "@last"), ["3", "4_1", "@last"]),
        (Kind.PAIRS, ("a=1", "b=x=y", "c="), {"a": "1", "b": "x=y", "c": ""}),
        (Kind.PAIRS, (), None),
        (Kind.SCALARS, ("lr=0.1", "n=3", "name=x"), {"lr": 0.1, "n": 3, "name": "x"}),
        (Kind.SIGNAL, ("SIGUSR1", 60.0, False), {"signal": "SIGUSR1", "before_s": 60.0}),
        (Kind.SIGNAL, ("SIGUSR1", 60.0, True), {"signal": "SIGUSR1", "before_s": 60.0, "batch": True}),
        (Kind.SIGNAL, None, None),
        (Kind.LIMIT, 3600.0, 3600.0),
    ],
)
def test_a_value_of_an_option_is_a_value_of_the_spec(kind, given, asked):
    assert asked_value(of(kind), given) == asked


def test_a_count_that_is_the_default_need_not_be_said():
    field = BY_NAME["priority"]
    assert asked_value(field, field.default) is None
    assert asked_value(field, 5) == 5


def test_a_text_without_a_sign_of_equality_names_its_option():
    with pytest.raises(UsageError) as refused:
        pair(of(Kind.SCALARS), "lr")
    assert (refused.value.message, refused.value.option) == ("'lr' is not K=V", "--param")


def test_an_edit_changes_what_is_given_and_an_empty_text_takes_away():
    nullable = [f.name for f, words in OPTIONS if words.edit and f.nullable and f.kind is Kind.TEXT]
    assert nullable
    given = {"priority": 0, "gpus": None, "labels": ("a=b",), **dict.fromkeys(nullable, "")}
    assert changes(given) == {"priority": 0, **dict.fromkeys(nullable)}


def test_every_field_that_lists_are_narrowed_by_has_an_option():
    assert set(FILTER_HELP) == {f"--{field.name}" for field in FILTERS}
    assert all(FILTER_HELP.values())


@pytest.mark.parametrize("field", BY_NAME.values(), ids=BY_NAME)
def test_the_value_of_each_option_goes_by_the_name_of_its_field(field):
    @command("one", short_help="One.")
    @submit_option(field)
    def one() -> None:
        """One."""

    (made,) = one.options
    assert made.dest == field.name
    assert tuple(made.names) == tuple(name.partition("/")[0] for name in field.option.names)
