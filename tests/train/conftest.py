"""What all tests of training share."""

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    """Small sums are not worth threads, several of them do not go with forks, and what a sum is depends on
    how many there are."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
