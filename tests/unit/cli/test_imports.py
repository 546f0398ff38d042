"""leptonctl starts fast because of what it does not import; that is what is checked, not a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.cli import SECTIONS
from tests.unit.cli.stub import Answer, Stub, ended, make_job, make_status, page, submitted

NEVER = {
    "asyncio",
    "aiohttp",
    "click",
    "dataclasses",
    "email",
    "http.client",
    "inspect",
    "rich",
    "ssl",
    "structlog",
    "torch",
    "pydantic",
    "msgspec",
    "textual",
    "sqlite3",
    "importlib.metadata",
    "leptond.api",
    "leptond.core.jobs.model",
    "leptond.daemon",
    "leptond.engines",
    "leptond.scheduling",
    "leptond.services",
    "leptond.store",
}
LEAN = {"typing", "socket", "selectors", "signal", "pathlib", "shutil"}
"""What the commands of every hour do without, beside that."""

PROGRAM = """
import json, sys
from leptond.cli import main
sys.argv = ["leptonctl", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def modules(*words: str) -> set[str]:
    """What is imported after a call of leptonctl in a pipe."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=60,
    )
    code, found = json.loads(ended.stderr.splitlines()[-1])
    assert not code, ended.stderr
    return set(found)


def modules_of(found: set[str]) -> set[str]:
    """Those of leptond's own modules that hold code: packages above them are passed over."""
    ours = {name for name in found if name.startswith("leptond.")}
    return {name for name in ours if not any(other.startswith(f"{name}.") for other in ours)}


MOST = 70
"""So many modules more than a bare interpreter has; with Python 3.11 it is 40 to 60."""


def bare() -> set[str]:
    """What an interpreter imports that does nothing."""
    found = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(found.stdout.split())


def test_status_in_a_pipe_imports_nothing_slow(stub: Stub):
    stub.on("GET", "/v1/status", make_status())
    found = modules("status")
    assert not found & (NEVER | LEAN | {"datetime", "decimal", "urllib.parse"})
    assert len(found - bare()) <= MOST
    assert modules_of(found) == {
        "leptond.base.socket_places",
        "leptond.base.usage",
        "leptond.cli.framework.declare",
        "leptond.cli.commands.gpus",
        "leptond.cli.framework.layout",
        "leptond.cli.framework.output",
        "leptond.cli.framework.params",
        "leptond.cli.text.queue_row",
        "leptond.cli.framework.registry",
        "leptond.cli.framework.session",
        "leptond.cli.framework.terminal",
        "leptond.cli.commands.status",
        "leptond.cli.text.phrases",
        "leptond.client.errors",
        "leptond.client.target",
        "leptond.client.transport",
        "leptond.core.jobs.states",
        "leptond.core.jobs.timespec",
        "leptond.client.http",
    }


def test_help_imports_no_command_and_no_http(home: Path):
    found = modules("--help")
    assert not found & (NEVER - {"click", "dataclasses", "inspect"} | {"leptond.client.transport"})
    assert {name for name in modules_of(found) if name.startswith("leptond.cli.")} == {
        "leptond.cli.framework.click_bridge",
        "leptond.cli.framework.declare",
        "leptond.cli.framework.help_groups",
        "leptond.cli.framework.params",
        "leptond.cli.framework.registry",
        "leptond.cli.framework.session",
        "leptond.cli.framework.terminal",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "-g", "1", "--", "true"],
        ["queue", "--mine"],
        ["ps"],
        ["history", "-n", "3"],
        ["--json", "gpus"],
        ["show", "47"],
        ["logs", "47"],
        ["wait", "47"],
        ["cancel", "47"],
    ],
)
def test_the_daily_commands_import_no_more_than_they_need(stub: Stub, words):
    stub.on("GET", "/v1/jobs/47", ended("succeeded", exit_code=0))
    stub.on("GET", "/v1/jobs", page())
    stub.on("POST", "/v1/jobs", submitted())
    stub.on("POST", "/v1/jobs/47/cancel", ended("succeeded"))
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"hi"]))
    stub.on("GET", "/v1/gpus", {"items": [], "backend": "nvml", "note": None})
    found = modules(*words)
    assert not found & (NEVER if words[0] in ("logs", "wait") else NEVER | LEAN)
    assert len(found - bare()) <= MOST


def test_every_command_module_keeps_to_the_rule(home: Path):
    names = sorted({module for section in SECTIONS.values() for module, _ in section.values()})
    program = (
        f"import sys\nfor name in {names}: __import__('leptond.cli.commands.' + name)\nprint(*sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=60,
    )
    assert not set(found.stdout.split()) & (NEVER - {"click", "dataclasses", "inspect"})


@pytest.mark.parametrize(
    ("words", "code"), [(["queue"], 0), (["show", "48"], 3), (["show"], 2), (["--help"], 0)]
)
def test_the_program_leaves_with_its_code_and_all_that_it_printed(stub: Stub, words, code):
    stub.on("GET", "/v1/jobs", page(*(make_job(id=number, name="x" * 100) for number in range(1, 400))))
    ended = subprocess.run(
        [sys.executable, "-m", "leptond.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        timeout=60,
    )
    assert ended.returncode == code
    lines = (ended.stdout or ended.stderr).splitlines()
    assert lines
    if words == ["queue"]:
        assert [line.split("\t")[0] for line in lines] == ["ID", *map(str, range(1, 400))]
