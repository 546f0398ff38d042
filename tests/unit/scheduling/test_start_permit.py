"""Starts wait while the disk takes nothing."""

import errno

from leptond.base.clock import SystemClock
from leptond.scheduling.start_permit import NO_SPACE_S, RETRY_S, StartPermit
from tests.support.engine import FakeEngine


class Clock(SystemClock):
    now = 0.0

    def boot(self):
        return self.now


async def test_only_a_failure_of_the_disk_blocks_and_only_until_it_takes_something():
    engine, clock = FakeEngine(), Clock()
    permit = StartPermit(engine, clock)
    for number in (None, errno.EAGAIN, errno.ENOENT):
        permit.failed(number)
    assert permit.likely()
    assert await permit.wait_s() == 0.0
    engine.disk_error = "no space left"
    permit.failed(errno.ENOSPC)
    assert not permit.likely()
    assert await permit.wait_s() == RETRY_S
    engine.disk_error = ""
    assert await permit.wait_s() == RETRY_S, "it was tried just now"
    assert not permit.likely()
    clock.now += RETRY_S
    assert await permit.wait_s() == 0.0
    assert permit.likely()


async def test_starts_wait_while_there_is_no_room():
    room = False
    permit = StartPermit(FakeEngine(), Clock(), lambda: room)
    assert not permit.likely()
    assert await permit.wait_s() == NO_SPACE_S
    room = True
    assert permit.likely()
    assert await permit.wait_s() == 0.0
