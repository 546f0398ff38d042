"""A helper that does anything but what it should."""

import asyncio
import os
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from leptond.gpus.helper import MAX_STUCK, Helper, NoAnswer, Times

HANGS = ["sleep", "3600"]
SLOW = Times(answer_s=60.0, start_s=60.0, restart_s=3600.0)
FAST = Times(start_s=0.2, restart_s=0.0, kill_s=0.05)

Start = Callable[..., Helper]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Makes helpers, and closes them at the end."""
    helpers: list[Helper] = []

    def one(
        command: list[str], times: Times = SLOW, kill: Callable[[Process], None] = Process.kill
    ) -> Helper:
        helpers.append(Helper(command, times, notes.append, kill))
        return helpers[-1]

    notes: list[str] = []
    yield one
    for helper in helpers:
        await helper.close()


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (shell("read line; exit 3"), "ended with exit code 3"),
        (shell("kill -TERM $$"), "ended by SIGTERM"),
        (shell("read line; exec >&-; exec sleep 3600"), "ended its output"),
        (shell("read line; echo what"), "cannot be asked"),
        (shell("""read line; echo '{"id": "1"}'"""), "cannot be asked"),
        (shell("""read line; echo '{"id": 1, "devices": [{"uuid": 1}]}'"""), "cannot be asked"),
        (shell("read line; head -c 9000000 /dev/zero"), "cannot be asked"),
        (["/nowhere/helper"], "cannot be asked"),
    ],
)
async def test_a_helper_that_misbehaves_is_given_up(start: Start, command: list[str], why: str) -> None:
    helper = start(command)
    with pytest.raises(NoAnswer, match=why):
        await helper.ask("list")
    assert helper.pid is None
    with pytest.raises(NoAnswer, match=why):  # and the reason stays until the next try is due
        await helper.ask("list")


async def test_one_that_hangs_is_killed_and_not_replaced_before_time(start: Start) -> None:
    killed: list[Process] = []

    def kill(process: Process) -> None:
        killed.append(process)
        process.kill()

    helper = start(HANGS, Times(start_s=1.0, restart_s=3600.0), kill)
    before = time.monotonic()
    with pytest.raises(NoAnswer, match="within 1 s") as first:
        await helper.ask("list")
    after = time.monotonic()
    with pytest.raises(NoAnswer) as second:
        await helper.ask("list")
    assert [process.returncode for process in killed] == [-9]
    assert before <= first.value.since == second.value.since < after


async def test_the_wait_for_a_new_one_doubles_to_its_limit(start: Start) -> None:
    notes: list[str] = []
    times = Times(start_s=0.01, restart_s=0.001, restart_max_s=0.004)
    helper = Helper(["/nowhere/helper"], times, notes.append)
    while len(notes) < 4:
        with suppress(NoAnswer):
            await helper.ask("list")
        await asyncio.sleep(0.001)
    assert [note.rpartition("next try in ")[2] for note in notes] == [
        "0.001 s",
        "0.002 s",
        "0.004 s",
        "0.004 s",
    ]


async def test_no_more_than_three_that_cannot_be_killed(start: Start) -> None:
    stuck: dict[int, Process] = {}
    helper = start(HANGS, FAST, lambda process: stuck.setdefault(process.pid, process) and None)
    try:
        while len(stuck) < MAX_STUCK:
            with pytest.raises(NoAnswer, match="did not answer"):
                await helper.ask("list")
        with pytest.raises(NoAnswer, match="3 helpers hang"):
            await helper.ask("list")
        assert len(stuck) == MAX_STUCK  # no fourth was started
        await _end(stuck.popitem()[1])
        while len(stuck) < MAX_STUCK:  # one is gone: another is tried
            with pytest.raises(NoAnswer, match="did not answer"):
                await helper.ask("list")
    finally:
        for process in stuck.values():
            await _end(process)


async def test_an_answer_to_a_cancelled_question_is_not_taken_for_the_next(start: Start) -> None:
    helper = start(
        shell(
            "read a; read b; "
            """echo '{"id": 1, "error": "old"}'; echo '{"id": 2, "problems": ["new"]}'; read c"""
        )
    )
    first = asyncio.create_task(helper.ask("sample"))
    while helper.pid is None:
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    answer = await helper.ask("sample")
    assert (answer.problems, answer.error) == (["new"], None)


async def test_closing_ends_a_question_under_way(start: Start) -> None:
    helper = start(HANGS)
    question = asyncio.create_task(helper.ask("sample"))
    while helper.pid is None:
        await asyncio.sleep(0.01)
    await helper.close()
    with pytest.raises(NoAnswer, match="closed"):
        await question
    with pytest.raises(NoAnswer, match="closed"):
        await helper.ask("sample")


async def test_closing_ends_a_helper_that_is_just_being_started(start: Start) -> None:
    ended: list[Process] = []

    def kill(process: Process) -> None:
        ended.append(process)
        process.kill()

    helper = start(HANGS, kill=kill)
    question = asyncio.create_task(helper.ask("sample"))
    await asyncio.sleep(0)  # the question has begun; starting a process takes several turns of the loop
    assert helper.pid is None
    await helper.close()
    with pytest.raises(NoAnswer, match="closed"):
        await question
    assert [process.returncode for process in ended] == [-9]


async def _end(process: Process) -> None:
    """Really kills a process, and reads its output to the end so that its pipes are closed."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    assert process.stdout is not None
    await process.stdout.read()


async def test_the_loop_turns_while_the_driver_hangs(start: Start, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    helper = start(shell(f"""read line; cat {gate}; echo '{{"id": 1}}'"""))
    question = asyncio.create_task(helper.ask("sample"))
    writer = None
    while writer is None and not question.done():
        with suppress(OSError):  # nobody reads yet: the helper has not come so far
            writer = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        await asyncio.sleep(0.01)
    # only this coroutine can let the driver go on, so we get here only if the question does not block it
    assert not question.done()
    assert writer is not None
    os.close(writer)
    assert (await question).id == 1
