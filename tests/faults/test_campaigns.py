"""A slice of the campaigns in every run of the tests; the whole of them is a command (CONTRIBUTING.md)."""

import pytest

from tests.faults.campaign import discover
from tests.faults.template import why_not

SLICES = {"crash-points-daemon": 1, "crash-points-shim": 1, "crash-images": 10, "disk-full": 1}


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("name", list(SLICES))
def test_a_slice_of(name, tmp_path):
    (one,) = [one for one in discover() if one.name == name]
    outcome = one.run(SLICES[name], 1, tmp_path)
    assert outcome.trials > 0
    failed = "\n".join(file.read_text() for file in tmp_path.glob("trials.jsonl"))
    assert outcome.failures == 0, failed


@pytest.mark.slow
def test_the_short_size_of_every_campaign(tmp_path):
    for one in discover():
        if one.short:
            outcome = one.run(one.short, 1, tmp_path / one.name)
            assert outcome.failures == 0, (one.name, outcome)
