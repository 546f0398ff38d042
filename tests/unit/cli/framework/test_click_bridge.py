"""Declared commands as click's: values, mistakes, and what is put before a call."""

import json

import click
import pytest
from click.testing import CliRunner

from leptond.base.usage import UsageError
from leptond.cli.framework.click_bridge import as_click, command, explain, group, kind, shared_options
from leptond.cli.framework.declare import argument, option
from leptond.cli.framework.declare import command as declare
from leptond.cli.framework.params import JOB, LIMIT, Whole
from leptond.cli.framework.session import Session


@declare("some", short_help="Do something.")
@argument("job", type=JOB)
@option("-t", "--time", "limit", type=LIMIT, help="A limit.")
@option("-n", "--count", type=Whole(1, 5), default=2, help="How many.")
@option("--on/--off", "switch", default=None, help="A switch.")
@option("--name", multiple=True, help="Names.")
def some(session, **values):
    """Do something with a job.

    Or not."""
    if values["job"] == "bad":
        raise UsageError("it is bad", option="--name")
    click.echo(json.dumps(values))


def call(*words):
    return CliRunner().invoke(as_click(some), words, obj=Session(), standalone_mode=True)


def test_values_are_what_the_declaration_makes_of_them():
    found = json.loads(call("7", "-t", "2h", "--count=3", "--off", "--name", "a", "--name", "b").output)
    assert found == {"job": "7", "limit": 7200.0, "count": 3, "switch": False, "name": ["a", "b"]}
    assert json.loads(call("7").output) == {
        "job": "7", "limit": None, "count": 2, "switch": None, "name": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["7", "-t", "soon"], "--time"),
        (["7", "-t", "0"], "a time limit must be over 0"),
        (["7", "-n", "6"], "6 is not in the range"),
        (["7", "-n", "x"], "--count"),
        ([], "Missing argument"),
        (["bad"], "Invalid value for --name: it is bad"),
    ],
)
def test_a_mistake_is_a_usage_error_that_names_its_option(words, says):
    result = call(*words)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output


def test_help_is_the_docstring_and_every_option():
    shown = call("--help").output
    for text in ("Do something with a job.", "--time", "A limit.", "--on / --off", "--json"):
        assert text in shown
    assert "--host" not in shown, "the other global options are those of the group"


def test_the_global_options_are_taken_before_and_behind_a_command():
    seen = []

    @command("one")
    def one(session):
        seen.append((session.json, session.host))

    root = click.group("root")(shared_options(hidden=False)(lambda: None))
    root.add_command(one)
    for words in (["one", "--json", "--host", "unix:/s"], ["--json", "--host", "unix:/s", "one"], ["one"]):
        CliRunner().invoke(root, words, obj=Session(), catch_exceptions=False)
    assert seen == [(True, "unix:/s"), (True, "unix:/s"), (False, None)]


def test_a_value_that_is_no_text_is_taken_as_it_is():
    assert kind(LIMIT).convert(5.0, None, None) == 5.0
    assert kind(str) is str
    assert isinstance(kind(Whole(0, 3)), click.IntRange)


def test_an_unknown_command_gets_a_suggestion_and_an_alias_is_known():
    result = CliRunner().invoke(group, ["qeueu"])
    assert result.exit_code == 2
    assert "Did you mean 'queue'?" in result.output
    assert group.get_command(click.Context(group), "kill") is group.get_command(
        click.Context(group), "cancel"
    )
    assert group.get_command(click.Context(group), "qeueu") is None


@pytest.mark.parametrize("json_asked", [False, True])
def test_a_call_that_was_read_without_click_is_explained_as_click_does(capsys, json_asked):
    words = ["7", "--json"] if json_asked else ["7", "--", "--json"]
    assert explain(some, UsageError("it is bad", option="--name"), words) == 2
    out, err = capsys.readouterr()
    assert "Usage: leptonctl some" in err
    assert "Invalid value for --name: it is bad" in err
    if json_asked:
        assert json.loads(out)["hint"] == "see leptonctl some --help"
    else:
        assert out == ""
