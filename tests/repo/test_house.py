"""The counter of structure and words."""

import doctest
from pathlib import Path

import pytest

from tests.repo import house


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    files = {
        "leptond/__init__.py": "",
        "leptond/low.py": "def one():\n    return 1\n",
        "leptond/high/__init__.py": '"""A folder."""\n',
        "leptond/high/top.py": (
            '"""What is on top."""\nfrom leptond.low import one\n\n\n'
            'def scene():\n    """Return the deck."""\n    return one() + len("scene")  # nobody looks\n'
        ),
        "tests/unit/high/test_top.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture(autouse=True)
def no_cache() -> None:
    house.tree.cache_clear()


def test_a_checkout_is_counted(checkout):
    found = house.survey(checkout)
    assert found["boxes directly below the package"] == ["leptond", "leptond.high", "leptond.low"]
    assert found["arrows between them"] == ["leptond.high -> leptond.low"]
    assert found["arrows up (least to remove)"] == []
    assert found["modules without a unit test of their own"] == ["leptond.low"]
    assert found["docstrings that begin with Who, What, Whether, How, Why"] == ["leptond/high/top.py:1"]
    assert found["word: scene"] == ["leptond/high/top.py:5"], "the string is not prose"
    assert found["word: deck"] == ["leptond/high/top.py:6"]
    assert found["word: nobody, somebody, whom"] == ["leptond/high/top.py:7"]


def test_a_long_file_and_a_long_function_are_named(checkout):
    body = "    pass\n" * house.LONG_FILE
    (checkout / "leptond" / "low.py").write_text(f"def one():\n{body}")
    found = house.survey(checkout)
    assert found["files over 500 lines"] == ["leptond/low.py (501)"]
    assert found["functions over 60 lines"] == ["leptond/low.py: one (501)"]


def test_an_import_back_is_an_arrow_up(checkout):
    (checkout / "leptond" / "low.py").write_text(
        "def one():\n    from leptond.high import top\n    return top\n"
    )
    assert len(house.survey(checkout)["arrows up (least to remove)"]) == 1


def test_its_examples_hold():
    assert doctest.testmod(house).failed == 0


def test_this_package_has_one_layer_below_another_but_for_the_public_names():
    assert len(house.upward(house.arrows(house.modules(house.TOP), house.top_box))) <= 1
