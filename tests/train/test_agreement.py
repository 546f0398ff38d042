"""Ranks leave in the same step, whenever each of them is told to stop."""

import time

import pytest

torch = pytest.importorskip("torch")

from torch import distributed  # noqa: E402

from leptond.train.agreement import StopAgreement  # noqa: E402
from tests.train.forks import errors, forked  # noqa: E402

pytestmark = pytest.mark.timeout(100)
STEPS = 12


def stopped_at(rank, told):
    """The step in which a rank leaves that is told to stop in the step `told[rank]`."""
    distributed.init_process_group("gloo")
    agreed = StopAgreement()
    step = 0
    for step in range(STEPS):
        time.sleep(0.01 * rank)  # one is slower
        if agreed(told[rank] is not None and step >= told[rank]):
            break
    agreed.leave_together()
    distributed.destroy_process_group()
    return step


@pytest.mark.parametrize(
    ("told", "step"),
    [([None, 3], 4), ([5, 3], 4), ([0, None], 1), ([None, None], STEPS - 1), ([11, None], 11)],
)
def test_all_ranks_leave_in_the_step_after_the_first_was_told(told, step, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTOND_ATTEMPT_ID", "a1")
    codes, found = forked(2, lambda rank: stopped_at(rank, told), tmp_path)
    assert codes == [0, 0], errors(tmp_path)
    assert found == [step, step]


def test_one_process_agrees_with_itself(monkeypatch):
    agreed = StopAgreement()
    assert [agreed(False), agreed(True)] == [False, True]
    agreed.leave_together()
