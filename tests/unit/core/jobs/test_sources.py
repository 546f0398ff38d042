"""Files of a command at the submit and at a start."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs import sources
from leptond.core.jobs.sources import Change, SourceFile

S = 10**9


def a_file(*, size: int = 3, modified: int = 50, status: int = 50, sha256: str | None = "a") -> SourceFile:
    return SourceFile(
        path="/w/x.py", size=size, modified_ns=modified * S, status_ns=status * S, sha256=sha256
    )


def changed(before: SourceFile, now: SourceFile, *, started_at: float = 200.0) -> Change | None:
    return sources.change_of(before, now, submitted_at=100.0, started_at=started_at)


def test_the_examples() -> None:
    assert doctest.testmod(sources).failed == 0


def test_a_file_that_was_edited_between_submit_and_start_has_changed() -> None:
    edited = a_file(modified=150, status=150, sha256="b")
    assert changed(a_file(), edited) == Change(path="/w/x.py", at=150.0)


def test_a_file_that_was_replaced_by_an_older_one_has_changed() -> None:
    assert changed(a_file(), a_file(modified=10, status=150, sha256="b")) == Change(path="/w/x.py", at=150.0)
    assert changed(a_file(), a_file(modified=10, status=90, sha256="b")) == Change(path="/w/x.py", at=None)


def test_what_has_the_same_content_has_not_changed() -> None:
    assert changed(a_file(), a_file()) is None
    assert changed(a_file(), a_file(modified=150, status=150)) is None  # touched, or checked out again


def test_of_a_large_file_size_and_time_count() -> None:
    large = a_file(sha256=None)
    assert changed(large, a_file(status=150, sha256=None)) is None  # its mode
    assert changed(large, a_file(modified=150, status=150, sha256=None)) is not None
    assert changed(large, a_file(size=4, status=150, sha256=None)) is not None


def test_a_change_after_the_start_is_none_of_this_attempt() -> None:
    assert changed(a_file(), a_file(modified=150, status=150, sha256="b"), started_at=149.0) is None


files = st.builds(
    SourceFile,
    path=st.text(min_size=1),
    size=st.integers(0, 2**53),
    modified_ns=st.integers(0, 2**62),
    status_ns=st.integers(0, 2**62),
    sha256=st.none() | st.text(),
)


@given(st.lists(files, max_size=3))
def test_files_come_back_from_their_column(found: list[SourceFile]) -> None:
    assert sources.decode(sources.encode(found)) == found
    assert (sources.encode(found) == "[]") == (not found)


@given(files, files, st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_change_is_of_that_file_and_before_the_start(
    before: SourceFile, now: SourceFile, submitted_at: float, started_at: float
) -> None:
    found = sources.change_of(before, now, submitted_at=submitted_at, started_at=started_at)
    if found is not None:
        assert found.path == before.path
        assert found.at is None or submitted_at < found.at <= started_at
        assert not sources.looks_same(before, now)
