"""The log of an attempt keeps within its budget and loses no more than it says; marker lines arrive however
the output is cut."""

import itertools
import os
import socket
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from leptond.attempt_files.output_log import JobLog
from leptond.core.training.progress import decode
from leptond.engines.shim import output
from leptond.engines.shim.output import MARK, MARK_BYTES, PENDING_BYTES, Log, MarkerLines, Marks, Output


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.integers(1, 3000), max_size=40),
    budget=st.integers(64, 4096),
)
def test_the_log_keeps_head_and_tail_within_its_budget(tmp_path_factory, parts, budget):
    directory = tmp_path_factory.mktemp("log")
    place = os.open(directory, os.O_DIRECTORY)
    log = Log(place, budget)
    whole = bytearray()
    for number, size in enumerate(parts):
        data = bytes((number + i) % 251 for i in range(size))
        whole += data
        log.write(data)
    os.close(log.fd)
    os.close(place)
    stored = sum(file.stat().st_size for file in directory.glob("output*.log"))
    assert stored <= budget
    assert log.total == len(whole)
    assert stored + log.dropped == len(whole)
    reader, offset, seen = JobLog(directory), 0, bytearray()
    gaps = 0
    assert reader.size() == len(whole)
    while True:
        data, after, skipped = reader.read(offset, 1000)
        if not data:
            break
        gaps += skipped
        assert data == whole[after - len(data) : after], "every byte stands at its own offset"
        seen += data
        offset = after
    assert offset == len(whole) or not whole
    assert gaps == log.dropped
    assert whole.startswith(bytes(seen[: budget // 2]))
    for limit in (1, budget // 8, budget):
        end, written_at = reader.end(limit)
        assert whole.endswith(end)
        assert len(end) == min(limit, len(whole)) or gaps
        assert written_at is not None or not whole


@settings(max_examples=40, deadline=None)
@given(
    data=st.binary(max_size=3000),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    budget=st.integers(8, 2000),
)
def test_what_is_kept_does_not_depend_on_how_the_output_was_cut(tmp_path_factory, data, cuts, budget):
    def kept(edges):
        directory = tmp_path_factory.mktemp("log")
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        log = Log(place, budget)
        for begin, end in itertools.pairwise(edges):
            log.write(data[begin:end])
        for fd in (log.fd, place):
            if fd >= 0:
                os.close(fd)
        return log.dropped, {file.name: file.read_bytes() for file in directory.iterdir()}

    whole = kept([0, len(data)])
    assert kept(sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})) == whole


def test_a_full_disk_drops_output_and_goes_on(tmp_path):
    place = os.open(tmp_path, os.O_DIRECTORY)
    log = Log(place, 1 << 20)
    log.write(b"before ")
    good, log.fd = log.fd, os.open("/dev/full", os.O_WRONLY)
    os.close(good)
    log.write(b"lost")
    log.write(b"after")
    os.close(log.fd)
    assert (log.total, log.dropped) == (16, 4)
    reader = JobLog(tmp_path)
    assert reader.read(0, 100) == (b"before ", 7, 0)
    assert reader.read(7, 100) == (b"after", 16, 4)


PIECES = st.sampled_from(
    [
        MARK,
        b"::lept",
        b":",
        b"ond ",
        b"step=3 loss=1.5",
        b"\n",
        b"\r",
        b"\r\n",
        b" 40%|\xe2\x96\x88",
        b"\0",
        b"\xff",
        b"",
        b"x" * (MARK_BYTES - 2),
        b"said ",
        b"\x1b[K",
    ]
)


def marker_lines(stream):
    """What MarkerLines should find, from the whole stream."""
    found = []
    for line in stream.split(b"\n"):
        for number, part in enumerate(line.split(b"\r")):
            at = part.find(MARK)
            if at == 0 or (at > 0 and number > 0):
                found.append(part[at + len(MARK) :])
    return [content for content in found if len(content) <= MARK_BYTES]


@settings(max_examples=300, deadline=None)
@given(stream=st.lists(PIECES, max_size=14).map(b"".join), cuts=st.lists(st.integers(0, 3000), max_size=12))
@example(stream=b"loading ... done\n::leptond step=1\n::leptond step=2\n", cuts=[11, 17, 34])
def test_marker_lines_are_found_however_the_stream_is_cut(stream, cuts):
    finder, found = MarkerLines(), []
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for begin, end in itertools.pairwise(edges):
        found += finder.feed(stream[begin:end])
        assert len(finder._rest) <= len(MARK) + MARK_BYTES
    found += finder.feed(b"", last=True)
    assert found == marker_lines(stream)


def test_each_single_cut_of_a_stream_finds_the_same_lines():
    stream = b"a\r 5%\r::leptond step=1\r\n::leptond step=2\nno ::leptond step=9\n::leptond step=3"
    for cut in range(len(stream) + 1):
        finder = MarkerLines()
        found = finder.feed(stream[:cut]) + finder.feed(stream[cut:]) + finder.feed(b"", last=True)
        assert found == [b"step=1", b"step=2", b"step=3"]
    finder = MarkerLines()
    bytewise = [line for byte in stream for line in finder.feed(bytes([byte]))]
    assert bytewise + finder.feed(b"", last=True) == [b"step=1", b"step=2", b"step=3"]


@pytest.mark.parametrize("piece", [b"::leptond ", b"x", b"\r", b"::leptond \r", b"\n", b"::leptond step=1\n"])
def test_the_work_grows_with_the_output_alone(piece):
    def took_s(count):
        finder, data, begin = MarkerLines(), piece * count, time.process_time()
        for at in range(0, len(data), output.CHUNK):
            finder.feed(data[at : at + output.CHUNK])
        return time.process_time() - begin

    assert took_s(200_000) < 20 * took_s(20_000) + 0.5


class Listener:
    """The daemon's end of the progress channel."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(5)

    def steps(self):
        """The steps in the next datagram."""
        return [message.step for message in decode(self.socket.recv(1 << 16))]


@pytest.fixture
def listener(tmp_path):
    one = Listener(tmp_path / "jobs.sock")
    yield one
    one.socket.close()


def test_lines_between_two_messages_go_together_and_stay_lines(listener):
    marks = Marks(listener.path, "0" * 32)
    marks.scan(b"".join(b"::leptond step=%d loss=1\n" % step for step in range(1, 101)))
    assert marks.due is not None
    marks.send()
    assert (marks.due, listener.steps()) == (None, list(range(1, 101)))


def test_a_flood_is_folded_and_its_last_values_arrive(listener):
    marks = Marks(listener.path, "0" * 32)
    marks.scan(b"::leptond step=0 rare=7\n")
    for step in range(1, 2001):
        marks.scan(b'::leptond step=%d loss=%d \xff\0"\n' % (step, step))
    marks.send()
    data = listener.socket.recv(1 << 16)
    messages = decode(data)
    values = {name: value for message in messages for name, value in message.metrics.items()}
    assert (messages[-1].step, values) == (2000, {"rare": 7, "loss": 2000})
    assert len(data) < 2 * PENDING_BYTES + 200


def test_what_nobody_takes_is_kept_and_sent_again(tmp_path):
    marks = Marks(str(tmp_path / "jobs.sock"), "0" * 32)
    marks.scan(b"::leptond step=1\n")
    marks.send()
    assert marks.due is not None
    listener = Listener(tmp_path / "jobs.sock")
    marks.scan(b"::leptond step=2\n")
    marks.send()
    assert (marks.due, listener.steps()) == (None, [1, 2])
    listener.socket.close()


def test_the_last_line_needs_no_newline(tmp_path, listener):
    launch = {"log_max_bytes": 1 << 20, "report_socket": listener.path, "attempt_id": "0" * 32}
    out = Output(os.open(tmp_path, os.O_DIRECTORY), launch)
    os.write(out.write_end, b"::leptond step=1\n::leptond step=2")
    os.close(out.write_end)
    assert not out.copy(8)
    out.marks.send()
    out.close()
    assert listener.steps() == [1, 2]
