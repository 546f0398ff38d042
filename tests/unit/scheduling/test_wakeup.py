"""What wakes the scheduler."""

import asyncio

from leptond.base.clock import SystemClock
from leptond.core.scheduling.handover import WakeReason
from leptond.scheduling.wakeup import Wakeup


async def test_reasons_come_together_until_they_are_cleared():
    wakeup = Wakeup(SystemClock())
    assert wakeup.clear() is None
    wakeup.prepared()
    assert wakeup.reasons == WakeReason.STANDBY
    wakeup.committed()
    wakeup.changed()
    assert wakeup.reasons == WakeReason.STANDBY | WakeReason.COMMIT | WakeReason.EXTERNAL
    before = SystemClock().wall()
    since = wakeup.clear()
    assert since <= before
    assert wakeup.reasons == WakeReason.NONE
    wakeup.prepared()
    assert wakeup.clear() is None, "a prepared attempt calls for no pass"


async def test_the_first_reason_for_a_pass_counts():
    times = iter([3.0, 9.0])

    class Clock(SystemClock):
        def wall(self):
            return next(times)

    wakeup = Wakeup(Clock())
    wakeup.committed()
    wakeup.committed()
    assert wakeup.clear() == 3.0


async def test_a_wait_ends_with_a_reason_or_with_the_time():
    wakeup, loop = Wakeup(SystemClock()), asyncio.get_running_loop()
    await wakeup.wait(loop.time())
    assert wakeup.reasons == WakeReason.TIMER
    wakeup.clear()
    wakeup.arm()
    loop.call_soon(wakeup.committed)
    async with asyncio.timeout(30):
        await wakeup.wait(loop.time() + 3600.0)
    assert wakeup.reasons == WakeReason.COMMIT
    async with asyncio.timeout(30):
        await wakeup.wait(loop.time() + 3600.0)  # it has not been armed again
    wakeup.arm()
    await wakeup.wait(loop.time())
    assert WakeReason.TIMER in wakeup.reasons
