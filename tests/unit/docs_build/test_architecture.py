"""The boxes of the package and the rules of its folders, as docs/architecture.md shows them."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from leptond.docs_build import architecture


def test_imports_are_read_from_the_source(tmp_path: Path) -> None:
    package = tmp_path / "house"
    for folder in ("attic", "cellar"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").write_text('"""A room. And more."""\n')
    (package / "__init__.py").write_text("from house.attic import window\n")
    (package / "attic" / "window.py").write_text(
        "import os\nimport house.door\n"
        "def f():\n    from house.cellar import wine\n    from house import door\n"
    )
    (package / "cellar" / "wine.py").write_text("from house import __version__\n")
    (package / "door.py").write_text("from elsewhere.attic import x\n")
    assert architecture.imports(package) == {
        "attic": {"cellar", "door"},
        "cellar": frozenset(),
        "door": frozenset(),
    }


def test_arrows_that_follow_from_others_are_left_out() -> None:
    assert doctest.testmod(architecture).failed == 0
    arrows = {"a": frozenset("bcd"), "b": frozenset("c"), "c": frozenset("d"), "d": frozenset[str]()}
    assert architecture.reduced(arrows) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": frozenset()}


def test_the_picture_shows_the_daemon_on_top_and_the_base_below() -> None:
    lines = architecture.boxes().splitlines()
    assert {'    box_core["core/"]', '    box_config["config.py"]'} <= set(lines)
    arrows = [line.split(" --> ") for line in lines if " --> " in line]
    above, below = {one.strip() for one, _ in arrows}, {other for _, other in arrows}
    assert {"box_daemon", "box_cli"} <= above - below
    assert "box_base" in below - above


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("One rule. And more.", "One rule."),
        ("A rule over\ntwo lines", "A rule over two lines"),
        ("Names :class:`Store` and ``x.y``. `More` of it.", "Names `Store` and `x.y`."),
    ],
)
def test_the_rule_of_a_folder_is_the_first_sentence(tmp_path: Path, told: str, sentence: str) -> None:
    file = tmp_path / "__init__.py"
    file.write_text(f'"""{told}"""\n')
    assert architecture.first_sentence(file) == sentence


def test_a_folder_without_a_rule_is_refused(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").touch()
    with pytest.raises(ValueError, match="does not say"):
        architecture.first_sentence(tmp_path / "__init__.py")
