"""Every command in the README and the documentation works as it is printed.

Blocks of shell are run against a real daemon, those of a document in order, in a directory with a few small
scripts under the names that the documents use. A comment before a block says why it is not run, or which test
runs it; such a block must still be shell. Commands in the text are read as leptonctl reads them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from leptond.__main__ import main as leptond
from leptond.cli.framework.click_bridge import group as leptonctl
from tests.support.daemon import Daemon

TOP = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (TOP / "docs").glob("*.md"))]
DECISIONS = (TOP / "docs/decisions").glob("*.md")
CHECKOUT = (TOP, TOP / "leptond")
OF_THE_STATE = {"warm", "jobs", "backups", "damaged"}
"""Folders of a state directory that the documents speak of."""
ARROWS = {
    "stateDiagram-v2": r"    (\[\*\]|[a-z_]+) --> (\[\*\]|[a-z_]+)",
    "flowchart TD": r'    box_[a-z_]+(\["[a-z_]+(/|\.py)"\]| --> box_[a-z_]+)',
    "sequenceDiagram": r"    (participant \w+( as .+)?|(    )?\w+--?>>\w+: [^;]+"
    r"|Note over \w+: [^;]+|alt .+|else|end)",
}
"""Kinds of diagrams, and what their lines look like."""
BLOCK = re.compile(r"(?:<!-- (not run|tested): ([^\n]*?) -->\n)?```sh\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """What is said of each block of shell (not run, tested, or nothing), what for, and the block."""
    return [(found[1] or "", found[2] or "", found[3]) for found in BLOCK.finditer((TOP / page).read_text())]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A home directory with the scripts of the documents, and the daemon of a machine as they speak of it:
    four H100, which may be shared."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    programs = {
        "leptonctl": f'exec {sys.executable} -m leptond.cli "$@"',
        "python": f'exec {sys.executable} "$@"',
        "torchrun": 'for script; do :; done; exec python "$script"',
    }
    for name, line in programs.items():
        (bin_dir / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_dir / name).chmod(0o755)
    for name in ("train.py", "eval.py", "sweep.py", "notebook.py"):
        (tmp_path / name).write_text("print('trained')\n")
    (tmp_path / "job.sh").write_text("#LEPTON --gpus 1 --time 10m\npython train.py\n")
    daemon = Daemon(
        tmp_path / "state",
        "--simulate-gpus",
        "4",
        "--listen",
        "127.0.0.1:0",
        env={"LEPTOND_GPUS__SIMULATE_MODEL": "NVIDIA H100 80GB", "LEPTOND_GPUS__SHARING": "true"},
    )
    daemon.start()
    yield tmp_path
    daemon.close()


@pytest.mark.parametrize("page", [page for page in PAGES if any(not what for what, _, _ in blocks(page))])
def test_the_blocks_of_a_page_run(page: str, place: Path):
    runnable = [text for what, _, text in blocks(page) if not what]
    env = {
        **os.environ,
        "HOME": str(place),
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(TOP),
        "LEPTOND_HOST": f"unix://{place}/state/leptond.sock",
    }
    for text in runnable:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=place,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        for number in re.findall(r"# prints: Submitted job (\d+)\b", text):
            assert f"Submitted job {number}\n" in done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_block_that_is_not_run_says_why_and_is_shell(page: str):
    for what, why, text in blocks(page):
        if what == "not run":
            assert len(why) > 10
        if what == "tested":
            assert (TOP / why).exists()
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def mentioned(page: str) -> set[str]:
    """The commands in the text of a page, in tables, and in sessions (``$ leptonctl ...``)."""
    text = (TOP / page).read_text()
    spans = re.findall(r"(?<!`)`((?:leptonctl|leptond) [^`]+)`(?!`)", text.replace("\n", " "))
    spans += re.findall(r"^\$ ((?:leptonctl|leptond) .*)$", text, re.MULTILINE)
    spans += re.findall(r"^((?:leptonctl|leptond) [^|&;\n]*)", "\n".join(b for _, _, b in blocks(page)), re.M)
    return {span.partition(" #")[0].strip() for span in spans}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_the_commands_that_a_page_mentions_exist_with_their_options(page: str):
    wrong = []
    for line in sorted(mentioned(page)):
        # what may be left out stands in brackets, in the documents as in manuals
        plain = re.sub(r"\bN\b", "2", re.sub(r"[\[\]]|\.\.\.", "", line))
        program, *words = shlex.split(plain)
        try:
            check(leptonctl if program == "leptonctl" else leptond, program, words)
        except click.UsageError as error:
            # a command is also spoken of without what it works on
            if not isinstance(error, click.MissingParameter):
                wrong.append(f"{line}: {error.format_message()}")
    assert not wrong, wrong


def check(group: click.Group, program: str, words: list[str]) -> None:
    """Reads a call without carrying it out. Raises click.UsageError."""
    ctx: click.Context = click.Context(group, info_name=program, **group.context_settings)
    command: click.Command = group
    while isinstance(command, click.Group):
        while words and words[0].startswith("-"):
            words = words[1:]
        if not words:
            return
        name, found, words = command.resolve_command(ctx, words)
        assert found is not None
        ctx = click.Context(found, info_name=name, parent=ctx, **found.context_settings)
        command = found
    if not {"-h", "--help"} & set(words):
        command.parse_args(ctx, words)


# -- links, anchors and paths ----------------------------------------------------------------------------

LINKED = [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", *sorted(f"docs/decisions/{p.name}" for p in DECISIONS)]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_to_a_file_and_an_anchor(page: str):
    text = (TOP / page).read_text()
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (TOP / page).parent / name if name else TOP / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            wrong.append(target)
    assert not wrong


@pytest.mark.parametrize("page", [page for page in LINKED if page != "CHANGELOG.md"])
def test_a_path_that_a_page_names_exists(page: str):
    """Paths of the checkout, or below leptond/; a changelog speaks of files as they were."""
    named = re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.[a-z]+)?)`", (TOP / page).read_text())
    missing = {
        path
        for path in named
        if path.partition("/")[0] not in OF_THE_STATE and not any((top / path).exists() for top in CHECKOUT)
    }
    assert not missing


@pytest.mark.parametrize("page", LINKED)
def test_a_diagram_is_closed_and_of_a_known_kind(page: str):
    text = (TOP / page).read_text()
    for block in re.findall(r"^```mermaid\n(.*?)^```$", text, re.M | re.S):
        kind, *lines = block.splitlines()
        assert kind in ARROWS
        assert len(lines) > 3
        wrong = [line for line in lines if not re.fullmatch(ARROWS[kind], line)]
        assert not wrong


def test_every_word_of_the_glossary_has_a_meaning_a_sibling_and_a_file():
    rows = re.findall(r"^\| (.*) \|$", (TOP / "docs/glossary.md").read_text(), re.M)
    words = [row.split(" | ") for row in rows if not row.startswith("word ")]
    assert len(words) > 40
    for word in words:
        assert len(word) == 4, word
        assert re.fullmatch(r"`leptond/[a-z_/]+(\.py|/)`", word[3]), word
    assert len({word[0] for word in words}) == len(words)
