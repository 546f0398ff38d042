"""Fixtures that several parts share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.daemon import Daemon

# The same examples at every run, however busy the machine is; LEPTOND_TEST_PROFILE=search looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("LEPTOND_TEST_PROFILE", "repeatable"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon with four simulated GPUs and four CPU slots."""
    one = Daemon(tmp_path / "state", "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    one.start()
    yield one
    one.close()


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for tests that leave it as they find it."""
    one = Daemon(tmp_path_factory.mktemp("shared") / "state", "--simulate-gpus", "2")
    one.start()
    yield one
    one.close()
