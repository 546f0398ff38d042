"""The kernel's word about names that go from a directory."""

import os
import select

import pytest

from leptond.base.directory_watch import DirectoryWatch


@pytest.fixture
def watch():
    one = DirectoryWatch()
    yield one
    one.close()


def reports(watch):
    return bool(select.select([watch.fd], [], [], 0)[0])


def remove(place):
    (place / "name").unlink()


def rename_away(place):
    (place / "name").rename(place.parent / "elsewhere")


def rename_within(place):
    (place / "name").rename(place / "other")


def rename_the_directory(place):
    place.rename(place.parent / "moved")


@pytest.mark.parametrize("change", [remove, rename_away, rename_within, rename_the_directory])
def test_what_takes_a_name_away_is_reported(watch, tmp_path, change):
    place = tmp_path / "place"
    place.mkdir()
    (place / "name").touch()
    watch.watch([place])
    assert not reports(watch)
    change(place)
    assert reports(watch)
    watch.clear()
    assert not reports(watch), "it waits for what happens next"


def test_new_names_and_new_content_are_not_reported(watch, tmp_path):
    (tmp_path / "name").touch()
    watch.watch([tmp_path])
    (tmp_path / "name").write_text("more")
    (tmp_path / "another").touch()
    assert not reports(watch)


def test_watching_once_more_keeps_what_is_watched(watch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    watch.watch([tmp_path / "one"])
    watch.watch([tmp_path / "one", tmp_path / "two"])
    for name in ("one", "two"):
        (tmp_path / name / "file").unlink()
        assert reports(watch)
        watch.clear()


@pytest.mark.parametrize("kind", ["absent", "file"])
def test_what_is_no_directory_is_refused_by_name(watch, tmp_path, kind):
    place = tmp_path / "place"
    if kind == "file":
        place.touch()
    with pytest.raises(OSError, match="place"):
        watch.watch([place])


def test_a_closed_watch_gives_its_descriptor_back():
    one = DirectoryWatch()
    assert not os.get_inheritable(one.fd)
    one.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(one.fd)
