"""What a person does with leptonctl on a real terminal: completion, watching, progress bars, manuals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leptond.core.jobs.model import State
from tests.unit.cli.stub import Answer, Asked, Stub, ended, make_job, make_status, page
from tests.unit.cli.terminal import Terminal

TOP = Path(__file__).parents[3]


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminal("bash", "-i")` is that program on a terminal, with leptonctl on its PATH."""
    made: list[Terminal] = []
    bin_dir = home / "bin"
    bin_dir.mkdir()
    (bin_dir / "leptonctl").write_text(f'#!/bin/sh\nexec {sys.executable} -m leptond.cli "$@"\n')
    (bin_dir / "leptonctl").chmod(0o755)

    def start(*words: str, **env: str) -> Terminal:
        kept = {name: os.environ[name] for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME")}
        path = f"{bin_dir}:{os.environ['PATH']}"
        made.append(Terminal(words, {**kept, "PATH": path, "PYTHONPATH": str(TOP), **env}))
        return made[-1]

    yield start
    for one in made:
        one.close()


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(leptonctl completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit && compinit -u -d $HOME/.zcd; eval "$(leptonctl completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "leptonctl completion fish | source"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_jobs_with_name_and_state(terminal, stub: Stub, shell: str):
    words, load = SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    stub.on(
        "GET",
        "/v1/jobs",
        page(make_job(id=471, name="llama"), make_job(id=472, name="eval", state=State.RUNNING)),
    )
    one = terminal(*words, PS1="$ ", PROMPT="$ ")
    one.say(load + "; echo rea''dy\n")
    one.shows("ready")
    at = len(one.out)
    one.say("leptonctl show 47" + ("\t\t" if shell == "bash" else "\t"))  # bash lists at the second
    one.shows("llama pending", after=at)
    one.shows("eval running", after=at)
    one.say("2\t; echo do''ne\n")
    one.shows("done", after=at)
    assert [asked.path for asked in stub.asked if asked.path.startswith("/v1/jobs/")] == ["/v1/jobs/472"]
    at = len(one.out)
    one.say("leptonctl cancel ll\t; echo agai''n\n")
    one.shows("again", after=at)
    assert stub.asked[-1].path == "/v1/jobs/llama/cancel" or any(
        asked.query.get("name") == "llama" for asked in stub.asked
    )
    one.say("exit\n")


def test_watch_draws_again_and_leaves_the_last_picture(terminal, stub: Stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=7)), page(make_job(id=8)), page(make_job(id=9)))
    one = terminal("leptonctl", "ls", "--watch", "--every", "0.05", NO_COLOR="1")
    one.shows("9  train.py")
    one.say("\x03")
    assert one.end() == 0
    assert b"\x1b[?1049h" in one.raw
    after = one.raw.partition(b"\x1b[?1049l")[2].decode()
    assert "9  train.py" in after, "what was seen last stays on the screen"
    assert "\x1b[32m" not in one.raw.decode()


def test_watching_goes_on_while_the_daemon_is_away(terminal, stub: Stub):
    stub.on("GET", "/v1/status", Answer({"title": "x", "detail": "not now"}, status=503), make_status())
    one = terminal("leptonctl", "status", "-w", "--every", "0.05")
    one.shows("All is well.")
    one.say("\x03")
    assert one.end() == 0


def held_back(answer: object) -> tuple[threading.Event, Callable[[Asked], object]]:
    """An answer that is given when the event is set."""
    free = threading.Event()

    def give(_: Asked) -> object:
        free.wait(60)
        return answer

    return free, give


def test_long_work_has_a_progress_bar(terminal, stub: Stub, home: Path):
    stub.on("GET", "/v1/status", make_status(counts={**dict.fromkeys(State, 0), State.SUCCEEDED: 2}))
    first = page(ended(State.SUCCEEDED, id=1))
    first.next_cursor = "more"
    free, second = held_back(page(ended(State.SUCCEEDED, id=2)))
    stub.on("GET", "/v1/jobs", first, second)
    one = terminal("leptonctl", "export", "-o", str(home / "jobs.csv"))
    one.shows("exporting jobs")
    one.shows("1/2")
    free.set()
    assert one.end() == 0
    assert len((home / "jobs.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "method", "path", "body", "says"),
    [
        (
            ["db", "backup"],
            "POST",
            "/v1/db/backups",
            {"name": "b.db", "bytes": 9, "taken_at": "2026-03-04T10:00:00Z"},
            "copying the database",
        ),
        (
            ["purge", "-y"],
            "POST",
            "/v1/purge",
            {"jobs": 3, "outputs": 0, "events": 1, "bytes": 5, "job_ids": [1]},
            "forgetting",
        ),
        (
            ["submit", "--array", "0-9999", "--", "true"],
            "POST",
            "/v1/jobs",
            {"id": 1, "ids": [1, 2], "array_id": 1, "name": "true", "warnings": []},
            "submitting 0-9999",
        ),
    ],
)
def test_a_request_that_takes_long_shows_that_it_goes_on(
    terminal, stub: Stub, words, method, path, body, says
):
    free, give = held_back(body)
    stub.on(method, path, give)
    one = terminal("leptonctl", *words)
    one.shows(says)
    free.set()
    assert one.end() == 0
    assert one.out.rstrip().splitlines()[-1].split()[0] in ("Backup", "Forgot", "Submitted")


def test_a_pipe_gets_no_bar(stub: Stub, cli):
    free, give = held_back({"jobs": 0, "outputs": 0, "events": 0, "bytes": 0, "job_ids": []})
    threading.Timer(0.6, free.set).start()
    stub.on("POST", "/v1/purge", give)
    result = cli("purge", "-y")
    assert (result.code, result.err) == (0, "")


def test_the_manual_pages_are_read_without_a_complaint():
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    for file in ("leptonctl.1", "leptond.1"):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", str(TOP / "docs" / "man" / file)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert "COMMANDS" in done.stdout
