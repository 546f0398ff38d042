"""A stop of real trees of wrappers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.engines.shim.trees import faults_of_seed

TREES = 16
"""How many trees are stopped here; a campaign has hundreds."""


def test_every_program_hears_a_stop_once_and_has_its_time_and_nothing_goes_on():
    with ThreadPoolExecutor(8) as pool:
        found = dict(zip(range(TREES), pool.map(faults_of_seed, range(TREES)), strict=True))
    assert not {shape: faults for shape, faults in found.values() if faults}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 240, 40))
def test_a_campaign_of_trees(first):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(faults_of_seed, range(1000 + first, 1040 + first)))
    assert not {shape: faults for shape, faults in found if faults}
