"""The images of a disk are what a power failure may leave, no less and no more; and they find what they are
for."""

import random
from pathlib import Path

import pytest

from tests.faults.campaign_images import self_test
from tests.faults.images import Disk, Record, mark, records
from tests.faults.template import why_not


def entry(kind: str, path: str, number: int = 0, data: bytes = b"", second: str = "") -> Record:
    return Record(kind, number, f"/top/{path}" if path else "/top", second and f"/top/{second}", data)


def states(tmp_path: Path, *entries: Record, path: str, images: int = 120) -> set[bytes | None]:
    """Every content that `path` has in some image after these records; None: it is not there."""
    disk = Disk("/top")
    for one in entries:
        disk.play(one)
    found: set[bytes | None] = set()
    for seed in range(images):
        to = tmp_path / f"image-{seed}"
        to.mkdir(exist_ok=True)
        disk.image(random.Random(seed), to)
        found.add((to / path).read_bytes() if (to / path).exists() else None)
        for file in sorted(to.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    return found


CREATED = (entry("C", "a"), entry("s", ""), entry("S", ""))


def test_what_is_synced_stays(tmp_path):
    synced = (*CREATED, entry("W", "a", 0, b"one"), entry("s", "a"), entry("S", "a"))
    assert states(tmp_path, *synced, path="a") == {b"one"}
    later = (*synced, entry("W", "a", 0, b"two"))
    assert states(tmp_path, *later, path="a") == {b"one", b"two"}


def test_a_sync_covers_what_was_written_before_it_was_called(tmp_path):
    between = (*CREATED, entry("s", "a"), entry("W", "a", 0, b"one"), entry("S", "a"))
    grown = bytes(3)  # its length was written, its data was not
    assert states(tmp_path, *between, path="a") == {b"", b"one", grown}
    not_back = (*CREATED, entry("W", "a", 0, b"one"), entry("s", "a"))
    assert states(tmp_path, *not_back, path="a") == {b"", b"one", grown}


def test_what_a_failed_sync_dropped_is_not_brought_back_by_the_next(tmp_path):
    failed = (*CREATED, entry("W", "a", 0, b"one"), entry("s", "a"), entry("X", "a"))
    later = (*failed, entry("s", "a"), entry("S", "a"))
    assert states(tmp_path, *later, path="a") == {b"", b"one"}
    again = (*failed, entry("W", "a", 0, b"one"), entry("s", "a"), entry("S", "a"))
    assert states(tmp_path, *again, path="a") == {b"one"}


def test_names_need_a_sync_of_their_directory(tmp_path):
    written = (entry("C", "a"), entry("W", "a", 0, b"one"), entry("s", "a"), entry("S", "a"))
    assert states(tmp_path, *written, path="a") == {None, b"one"}
    moved = (*CREATED, entry("W", "a", 0, b"one"), entry("s", "a"), entry("S", "a"))
    moved = (*moved, entry("R", "a", second="b"))
    assert states(tmp_path, *moved, path="b") == {None, b"one"}
    assert states(tmp_path, *moved, entry("s", ""), entry("S", ""), path="a") == {None}
    assert states(tmp_path, *moved, entry("s", ""), entry("S", ""), path="b") == {b"one"}


def test_a_rename_may_come_before_the_data(tmp_path):
    careless = (*CREATED, entry("C", "t"), entry("W", "t", 0, b"one"), entry("R", "t", second="a"))
    assert {b"", b"one"} <= states(tmp_path, *careless, path="a")


def test_a_directory_that_is_not_synced_takes_its_files_along(tmp_path):
    deep = (entry("D", "d"), entry("C", "d/a"), entry("W", "d/a", 0, b"one"))
    deep += (entry("s", "d/a"), entry("S", "d/a"), entry("s", "d"), entry("S", "d"))
    assert states(tmp_path, *deep, path="d/a") == {None, b"one"}
    assert states(tmp_path, *deep, entry("s", ""), entry("S", ""), path="d/a") == {b"one"}


def test_a_write_may_be_torn_at_sectors_only(tmp_path):
    old, new = b"o" * 2048, b"n" * 2048
    base = (*CREATED, entry("W", "a", 0, old), entry("s", "a"), entry("S", "a"))
    seen = states(tmp_path, *base, entry("W", "a", 0, new), path="a", images=400)
    assert {old, new} < seen
    for content in seen:
        assert content is not None
        sectors = [content[at : at + 512] for at in range(0, 2048, 512)]
        assert all(sector in (old[:512], new[:512]) for sector in sectors)


def test_records_read_back_in_their_order(tmp_path):
    file = tmp_path / "record"
    mark(file, "accepted", [1, 2])
    with file.open("ab") as out:
        out.write(b"W 7 5 /top/a\n\n\n\n\n\nS 0 0 /top/a\nR 0 0 /top/a\t/top/b\n")
    read = list(records(file))
    assert [(one.kind, one.number, one.path, one.second) for one in read] == [
        ("M", 0, "accepted", ""),
        ("W", 7, "/top/a", ""),
        ("S", 0, "/top/a", ""),
        ("R", 0, "/top/a", "/top/b"),
    ]
    assert (read[0].data, read[1].data) == (b"[1, 2]", b"\n" * 5)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_the_images_find_commits_that_are_not_synced(tmp_path):
    """Otherwise the images are no good, and a clean campaign says nothing."""
    found = self_test(tmp_path, seed=3, images=30)
    assert found.failures > 0
    assert "lost" in found.why or "had ended" in found.why
