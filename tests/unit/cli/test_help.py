"""The group, its help, and what shells complete."""

from __future__ import annotations

import click
import pytest
from click.shell_completion import ShellComplete

from leptond import __version__
from leptond.cli import ALIASES, SECTIONS
from leptond.cli.framework.click_bridge import group
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, make_job, page, problem

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


def test_the_group_lists_every_command_without_importing_it(cli: Cli):
    result = cli("--help")
    assert result.code == 0
    for name, (_, text) in COMMANDS.items():
        assert f"{name}" in result.out
        assert text in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_and_the_line_of_the_table(cli: Cli, name: str):
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.name == name
    assert command.short_help == COMMANDS[name][1]
    for flag in ("--help", "-h"):
        result = cli(name, flag)
        assert result.code == 0
        assert result.out.startswith(f"Usage: leptonctl {name}")
        assert "--json" in result.out


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_aliases_are_the_same_command(alias, name):
    context = click.Context(group)
    assert group.get_command(context, alias) is group.get_command(context, name)


def test_a_slip_gets_a_suggestion(cli: Cli):
    result = cli("submti", "x")
    assert result.code == 2
    assert "Did you mean 'submit'?" in result.err
    assert cli("xyzzy").code == 2


def test_the_version(cli: Cli):
    assert cli("--version").out == f"leptonctl, version {__version__}\n"


def complete(*words: str) -> list[tuple[str, str | None]]:
    *args, incomplete = words
    found = ShellComplete(group, {}, "leptonctl", "_X").get_completions(args, incomplete)
    return [(item.value, item.help) for item in found]


def test_job_ids_are_completed_with_their_names_and_states(stub: Stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=47), make_job(id=51, name="ev\x1bal"), make_job(id=471)))
    assert complete("show", "47") == [("47", "train.py pending"), ("471", "train.py pending")]
    assert complete("submit", "--after", "5") == [("51", "eval pending")]
    assert complete("--host", f"unix:{stub.path}", "cancel", "5") == [("51", "eval pending")]


def test_commands_and_options_are_completed(home):
    assert ("submit", "Queue a command or a script.") in complete("sub")
    assert ("--gpus", "How many whole GPUs [0, or jobs.gpus].") in complete("submit", "--gp")


def test_a_daemon_that_is_away_or_unwell_completes_nothing_and_says_nothing(home, stub: Stub, capsys):
    stub.on("GET", "/v1/jobs", problem(503, "starting"))
    assert complete("show", "4") == []
    assert complete("--host", "unix:/nowhere", "show", "4") == []
    assert complete("--host", "nonsense", "show", "4") == []
    assert capsys.readouterr() == ("", "")
