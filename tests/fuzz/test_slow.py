"""A slice of the campaign of slow clients; the whole of it is `python -m tests.fuzz.slow`."""

import pytest

from tests.fuzz.http import Target
from tests.fuzz.slow import KINDS, run


@pytest.fixture
def target(tmp_path):
    one = Target(tmp_path)
    yield one
    one.daemon.close()


def test_slow_clients_are_closed_and_shut_nobody_out(target):
    found = run(target, clients=30 * len(KINDS), patience_s=60.0)
    assert found.closed == found.opened
    assert found.starts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_slow_clients_are_closed_and_shut_nobody_out(target):
    found = run(target, clients=1000, patience_s=120.0)
    assert found.closed == found.opened
