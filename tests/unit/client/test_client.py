"""`leptond.client` offers what users import, and imports nothing for it before they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import leptond
from leptond import client


@pytest.mark.parametrize("name", client.__all__)
def test_each_name_is_there(name: str) -> None:
    found = getattr(client, name)
    assert found.__name__ == name
    assert found.__module__.startswith("leptond.client.")
    assert name in dir(client)


def test_the_package_offers_the_same_classes() -> None:
    for name in {*leptond.__all__} - {"__version__"}:
        assert getattr(leptond, name) is getattr(client, name)


def test_a_name_that_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match=r"'leptond\.client' has no attribute 'nothing'"):
        client.nothing  # noqa: B018


def test_the_import_brings_nothing_along() -> None:
    program = "import sys, leptond.client; print(*(n for n in sys.modules if n.startswith('leptond')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stdout.split() == ["leptond", "leptond.client"]
