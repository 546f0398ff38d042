"""Fixtures that several parts share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon with four simulated GPUs and four CPU slots."""
    one = Daemon(tmp_path / "state", "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    one.start()
    yield one
    one.close()
