"""The log of an attempt keeps within its budget, and loses no more than it says."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.attempt_files.output_log import JobLog
from leptond.engines.shim.output import Log


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.integers(1, 3000), max_size=40),
    budget=st.integers(64, 4096),
)
def test_the_log_keeps_head_and_tail_within_its_budget(tmp_path_factory, parts, budget):
    directory = tmp_path_factory.mktemp("log")
    log = Log(str(directory), budget)
    whole = bytearray()
    for number, size in enumerate(parts):
        data = bytes((number + i) % 251 for i in range(size))
        whole += data
        log.write(data)
    os.close(log.fd)
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


def test_a_full_disk_drops_output_and_goes_on(tmp_path):
    log = Log(str(tmp_path), 1 << 20)
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
