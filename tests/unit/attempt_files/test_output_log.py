"""The output of an attempt, read from its directory."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.attempt_files.output_log import JobLog


def test_the_reader_follows_no_link_and_opens_no_fifo(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    attempt = tmp_path / "a"
    attempt.mkdir()
    (attempt / "output.log").symlink_to(secret)
    os.mkfifo(attempt / "output.0000000000000009.log")
    assert JobLog(attempt).read(0, 100) == (b"", 0, 0)
    (attempt / "output.log").unlink()
    os.link(secret, attempt / "output.log")
    assert JobLog(attempt).read(0, 100)[0] == b""


@given(
    lines=st.lists(st.text(alphabet="ab\r ", max_size=5), max_size=30),
    wanted=st.integers(0, 35),
    end=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_the_tail_is_the_last_lines(tmp_path_factory, lines, wanted, end):
    directory = tmp_path_factory.mktemp("tail")
    text = "\n".join(lines) + ("\n" if end and lines else "")
    (directory / "output.log").write_bytes(text.encode())
    reader = JobLog(directory)
    data, _, _ = reader.read(reader.tail(wanted), 10_000)
    pieces = text.split("\n")
    if pieces and pieces[-1] == "":
        pieces.pop()
    kept = pieces[-wanted:] if wanted else []
    expected = "\n".join(kept) + ("\n" if text.endswith("\n") and kept else "")
    assert data.decode() == expected
