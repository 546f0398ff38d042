"""The daemon's own log, in a process of its own: it sets up all of it."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from leptond.config import LogSettings
from leptond.daemon.logging import configure
configure(LogSettings(format="{format}", level="{level}"))
log = structlog.get_logger("leptond.test")
log.debug("a.debug")
log.info("an.info", job=3)
try:
    environment = {{"API_TOKEN": "canary"}}
    1 / 0
except ZeroDivisionError:
    log.error("an.error", exc_info=True)
logging.getLogger("aiohttp").warning("of the library")
logging.getLogger("aiohttp").info("not heard")
"""


def logged(format, level):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(format=format, level=level)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "", "standard output is not the log's"
    return done.stderr


@pytest.mark.parametrize(("level", "heard"), [("debug", 3), ("error", 1)])
def test_each_line_is_an_object_and_those_below_the_level_are_left_out(level, heard):
    *lines, library = logged("auto", level).splitlines()
    assert library == "WARNING aiohttp: of the library"
    found = [json.loads(line) for line in lines]
    assert [one["event"] for one in found] == ["a.debug", "an.info", "an.error"][-heard:]
    assert found[-1]["level"] == "error"
    assert found[-1]["exception"][0]["exc_type"] == "ZeroDivisionError"
    if heard > 1:
        assert found[-2]["job"] == 3
        assert found[-2]["timestamp"].endswith("Z")


def test_text_is_for_people_and_has_no_colours_in_a_pipe():
    text = logged("text", "info")
    assert "an.info" in text
    assert "job=3" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_fault_is_logged_without_the_values_of_variables(format):
    text = logged(format, "info")
    assert "ZeroDivisionError" in text
    assert "canary" not in text
