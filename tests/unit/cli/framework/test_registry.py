"""The table of commands, which help is made from without importing any of them."""

from __future__ import annotations

import pytest

from leptond.cli.framework.declare import Command
from leptond.cli.framework.registry import ALIASES, MODULES, SECTIONS, load

LINES = {name: text for section in SECTIONS.values() for name, (_, text) in section.items()}


@pytest.mark.parametrize("name", list(MODULES))
def test_each_command_is_where_the_table_says_and_says_the_same_of_itself(name: str) -> None:
    found = load(name)
    short = found.short_help if isinstance(found, Command) else found.get_short_help_str(200)
    assert found.name == name
    assert short == LINES[name]


def test_an_alias_is_of_a_command_and_no_command_itself() -> None:
    assert all(name in MODULES for name in ALIASES.values())
    assert not set(ALIASES) & set(MODULES)
