"""Why GPUs stay free, in the ledger's words."""

import pytest

from leptond.core.accounting.ledger import IdleCause
from leptond.core.jobs.model import Reason
from leptond.core.scheduling.idle_cause import idle_cause
from leptond.core.scheduling.planner import Reservation, Wait, Waiting


def job(number, gpus):
    return Waiting(id=number, priority=0, gpus=gpus, since=0.0)


def wait(reason):
    return Wait(reason=reason, sentence="words")


KEPT = [Reservation(id=1, needs=4, at=None, gpus=2)]


@pytest.mark.parametrize(
    ("rows", "free", "kept", "expected"),
    [
        ([], 2, [], (IdleCause.NO_DEMAND, "")),
        ([(1, 4, Reason.RESOURCES)], 2, [], (IdleCause.BLOCKED, "")),
        ([(1, 4, Reason.RESOURCES)], 2, KEPT, (IdleCause.BLOCKED, "")),
        ([(1, 4, Reason.RESOURCES), (2, 1, Reason.PRIORITY)], 2, KEPT, (IdleCause.FITS, "kept for job 1")),
        ([(1, 4, Reason.RESOURCES), (2, 3, Reason.PRIORITY)], 2, KEPT, (IdleCause.BLOCKED, "")),
        ([(2, 1, Reason.RESOURCES)], 2, [], (IdleCause.BLOCKED, "")),  # of another type, or shared
        ([(2, 1, Reason.ARRAY_LIMIT)], 2, KEPT, (IdleCause.NO_DEMAND, "")),
        ([(2, 1, Reason.USER_LIMIT)], 2, [], (IdleCause.NO_DEMAND, "")),
        ([(2, 0, Reason.RESOURCES)], 2, [], (IdleCause.NO_DEMAND, "")),
        ([(2, 5, Reason.DRAINING)], 2, [], (IdleCause.BLOCKED, "")),
        ([(2, 1, Reason.PAUSED)], 2, [], (IdleCause.FITS, "the scheduler is paused")),
    ],
)
def test_what_the_queue_is_like_for_free_gpus(rows, free, kept, expected):
    waiting = [job(number, gpus) for number, gpus, _ in rows]
    waits = {number: wait(reason) for number, _, reason in rows}
    assert idle_cause(waiting, waits, free, kept) == expected
