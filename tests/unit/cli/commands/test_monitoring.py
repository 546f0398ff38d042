"""`leptonctl monitoring`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leptond.cli.commands.monitoring import FILES
from tests.unit.cli.conftest import Cli


@pytest.mark.parametrize("what", list(FILES))
def test_each_file_is_printed_as_it_is(cli: Cli, what: str):
    found = json.loads(cli("monitoring", what, "--json").out)
    assert Path(found["file"]).name == FILES[what]
    assert found["text"] == Path(found["file"]).read_text()
    assert cli("monitoring", what).out == found["text"]
    assert found["text"].strip()


def test_another_file_is_a_usage_error(cli: Cli):
    assert cli("monitoring", "nagios").code == 2
