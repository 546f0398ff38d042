"""Fixtures that several parts share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.daemon import Daemon
from tests.support.store import put_state

# The same examples at every run, however busy the machine is; LEPTOND_TEST_PROFILE=search looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("LEPTOND_TEST_PROFILE", "repeatable"))


SHORT = 16
"""Longest name, in bytes, of a directory for temporary files: a socket's whole path may have 107."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the run a base directory with a short path, whatever the user and TMPDIR are called: sockets of
    daemons lie far below it. Workers get directories within it."""
    if hasattr(config, "workerinput") or config.option.basetemp is not None or config.option.collectonly:
        return
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > SHORT:
        parent = "/tmp"
    config.option.basetemp = tempfile.mkdtemp(prefix="lt-", dir=parent)
    config.stash[OWN_BASE] = Path(config.option.basetemp)


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers that pytest starts of itself: one more than there are cores, because tests
    of daemons mostly wait."""
    return len(os.sched_getaffinity(0)) + 1


OWN_BASE = pytest.StashKey[Path]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember whether the files of the run may be looked for afterwards."""
    session.config.stash[FAILED] = exitstatus != pytest.ExitCode.OK


FAILED = pytest.StashKey[bool]()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the base directory of a run in which nothing failed."""
    base = config.stash.get(OWN_BASE, None)
    if base is not None and not config.stash.get(FAILED, True):
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon with four simulated GPUs and four CPU slots."""
    one = Daemon(put_state(tmp_path / "state"), "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    one.start()
    yield one
    one.close()


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for tests that leave it as they find it."""
    one = Daemon(put_state(tmp_path_factory.mktemp("shared") / "state"), "--simulate-gpus", "2")
    one.start()
    yield one
    one.close()
