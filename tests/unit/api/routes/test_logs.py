"""The output of attempts: parts, ranges, ends, and a stream through retries."""

import pytest

from leptond.api.routes.logs import _range
from leptond.attempt_files import layout


@pytest.fixture
async def job(world):
    """A job that runs, and ``write(text)`` for its output."""
    number = await world.submit(gpus=1)
    attempt = await world.start(number, "GPU-0")
    return number, attempt, world.directory(number) / "output.log"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-3", (0, 3)),
        ("bytes=4-", (4, 9)),
        ("bytes=4-99", (4, 9)),
        ("bytes=-3", (7, 9)),
        ("bytes=-99", (0, 9)),
        ("bytes=10-", None),
        ("bytes=5-4", None),
        ("bytes=-0", None),
    ],
)
def test_a_range_is_cut_to_what_is_there(asked, part):
    assert _range(asked, 10) == part
    assert _range("bytes=-5", 0) is None


@pytest.mark.parametrize(
    "asked", ["bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=" + "9" * 30 + "-"]
)
async def test_a_range_that_cannot_be_read_is_refused(world, job, asked):
    job[2].write_bytes(b"x")
    assert (await world.get(f"/v1/jobs/{job[0]}/log", Range=asked)).status == 400


async def test_a_part_says_where_to_go_on(world, job):
    number, _, file = job
    file.write_bytes(b"one\ntwo\nthree\n")
    at = f"/v1/jobs/{number}/log"
    whole = await world.get(at)
    assert (whole.status, whole.data) == (200, b"one\ntwo\nthree\n")
    first = await world.get(f"{at}?limit=5")
    assert (first.data, first.headers["X-Log-Next-Offset"]) == (b"one\nt", "5")
    assert (await world.get(f"{at}?offset=5")).data == b"wo\nthree\n"
    assert (await world.get(f"{at}?tail=2")).data == b"two\nthree\n"
    part = await world.get(at, Range="bytes=4-6")
    assert (part.status, part.data) == (206, b"two")
    assert part.headers["Content-Range"] == "bytes 4-6/14"
    over = await world.get(at, Range="bytes=14-")
    assert (over.status, over.headers["Content-Range"]) == (416, "bytes */14")
    assert (await world.get(f"{at}?offset=1&tail=1")).status == 422


async def test_bytes_that_were_not_kept_are_said_where_they_were(world, job):
    number, _, file = job
    file.write_bytes(b"begin\n")
    file.with_name(layout.segment(100)).write_bytes(b"end\n")
    answer = await world.get(f"/v1/jobs/{number}/log")
    assert answer.data == b"begin\n\n[leptond: 94 bytes of output were not kept]\nend\n"
    assert (answer.headers["X-Log-Dropped"], answer.headers["X-Log-Size"]) == ("94", "104")


async def test_what_has_no_output_says_why(world, job):
    waiting = await world.submit(gpus=1)
    answer = await world.get(f"/v1/jobs/{waiting}/log")
    assert (answer.status, "has not started yet" in answer.json["detail"]) == (404, True)
    number, _, file = job
    file.write_bytes(b"x")
    answer = await world.get(f"/v1/jobs/{number}/log?attempt=2")
    assert (answer.status, "no attempt 2" in answer.json["detail"]) == (404, True)
    file.unlink()
    answer = await world.get(f"/v1/jobs/{number}/log")
    assert (answer.status, answer.json["type"]) == (404, "/problems/output-removed")


async def test_a_stream_goes_on_to_the_end_of_the_job(world, job):
    number, attempt, file = job
    file.write_bytes("grü".encode()[:-1])
    stream = await world.stream(f"/v1/jobs/{number}/log/stream")
    assert (await stream.next())[::2] == ("log.attempt", {"number": 1})
    kind, mark, data = await stream.next()
    assert (kind, data["text"], mark) == ("log.chunk", "gr", "1:2")
    with file.open("ab") as out:
        out.write("ü\n".encode()[1:])
    assert (await stream.next())[2]["text"] == "ü\n", "a character is not cut"
    await world.finish(attempt, 3)
    kind, _, data = await stream.next()
    assert (kind, data["state"], data["exit_code"]) == ("end", "failed", 3)


async def test_a_stream_resumes_where_it_was_cut(world, job):
    number, attempt, file = job
    file.write_bytes(b"one\ntwo\n")
    await world.finish(attempt)
    stream = await world.stream(f"/v1/jobs/{number}/log/stream", Last_Event_ID="1:4")
    assert [event[2].get("text") for event in await stream.rest()] == [None, "two\n", None]
    for bad in ("1", "a:b", "1:2:3"):
        assert (await world.get(f"/v1/jobs/{number}/log/stream", Last_Event_ID=bad)).status == 400


async def test_a_stream_begins_with_the_last_lines_and_says_gaps(world, job):
    number, attempt, file = job
    file.write_bytes(b"one\ntwo\n")
    file.with_name(layout.segment(50)).write_bytes(b"three\n")
    await world.finish(attempt)
    stream = await world.stream(f"/v1/jobs/{number}/log/stream?tail=1")
    assert [event[2].get("text") for event in await stream.rest()] == [None, "three\n", None]
    stream = await world.stream(f"/v1/jobs/{number}/log/stream")
    events = await stream.rest()
    assert [kind for kind, _, _ in events] == ["log.attempt", "log.chunk", "log.gap", "log.chunk", "end"]
    assert events[2][2] == {"attempt": 1, "dropped_bytes": 42, "next_offset": 50}


async def test_half_a_character_before_a_gap_does_not_spoil_what_follows(world, job):
    number, attempt, file = job
    file.write_bytes("aü".encode()[:-1])
    file.with_name(layout.segment(50)).write_bytes(b"b\n")
    await world.finish(attempt)
    events = await (await world.stream(f"/v1/jobs/{number}/log/stream")).rest()
    assert [data["text"] for kind, _, data in events if kind == "log.chunk"] == ["a", "b\n"]
