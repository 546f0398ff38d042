"""What docs/troubleshooting.md quotes is what the program says: every part of a quoted sentence is in a text
of the source."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs/troubleshooting.md").read_text()
FROM_ELSEWHERE = {"No module named ...", "can't open file ..."}
"""What Python says, which leptond quotes."""


@cache
def texts() -> str:
    """Every text of the source, those of f-strings without what is filled in, a line each."""
    found = []
    for file in (TOP / "leptond").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(" ".join(node.value.split()))
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.append(" ".join("".join(map(str, parts)).split()))
    return "\n".join(found)


def quoted() -> list[str]:
    """The sentences in quotation marks, without line breaks."""
    return [" ".join(found.split()) for found in re.findall(r'"([^"]+)"', PAGE)]


def test_there_are_sentences_of_every_kind():
    assert len(quoted()) > 25
    assert set(quoted()) >= FROM_ELSEWHERE


@pytest.mark.parametrize("sentence", sorted(set(quoted()) - FROM_ELSEWHERE))
def test_a_quoted_sentence_is_one_of_the_programs(sentence: str):
    parts = [part.strip() for part in sentence.split("...") if part.strip(" ():,")]
    assert parts
    for part in parts:
        assert part in texts(), f"{part!r} is in no text of the source"


def test_every_reason_for_waiting_is_explained():
    from leptond.core.jobs.model import Reason

    missing = {str(reason) for reason in Reason} - set(re.findall(r"`([A-Z][A-Za-z]+)`", PAGE))
    assert missing <= {"Priority", "BeginTime", "Impossible"}, "these explain themselves"
