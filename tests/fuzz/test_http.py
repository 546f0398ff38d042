"""A slice of the campaign of malformed HTTP; the whole of it is `python -m tests.fuzz.http`."""

import os

import pytest

from tests.fuzz.http import Target, run

SEED = int(os.environ.get("LEPTOND_TEST_SEED", "1"))


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    one = Target(tmp_path_factory.mktemp("fuzz"))
    yield one
    one.daemon.close()


def test_malformed_http_does_no_harm(target):
    found = run(target, cases=300, seed=SEED)
    assert found["400"] + found["404"] + found["421"] > 30, found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_much_malformed_http_does_no_harm(target):
    run(target, cases=int(os.environ.get("LEPTOND_FUZZ_CASES", "20000")), seed=SEED + 1)
