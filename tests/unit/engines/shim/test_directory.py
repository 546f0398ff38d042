"""The directory of an attempt, whatever its job makes of it."""

import os

import pytest

from leptond.engines.shim.directory import Directory


@pytest.fixture
def place(tmp_path):
    one = tmp_path / "jobs" / "7" / "1"
    one.mkdir(parents=True)
    return one


@pytest.fixture
def directory(place):
    one = Directory(str(place))
    yield one
    one.close()


def rename(place):
    place.rename(place.with_name("mine"))


def rename_above(place):
    place.parent.rename(place.parent.with_name("mine"))


def put_a_link(place):
    rename(place)
    place.symlink_to("mine")


def put_a_file(place):
    rename(place)
    place.write_text("mine")


def put_another(place):
    rename(place)
    place.mkdir()


def put_a_file_above(place):
    rename_above(place)
    place.parent.write_text("mine")


@pytest.mark.parametrize(
    "change", [rename, rename_above, put_a_link, put_a_file, put_another, put_a_file_above]
)
def test_the_record_stands_where_the_daemon_looks_for_it(directory, place, change):
    change(place)
    assert directory.put_in_place(), "its way is to be made durable anew"
    directory.write("exit.json", "{}", sync=True)
    assert not place.is_symlink()
    assert (place / "exit.json").read_text() == "{}"


def test_a_directory_that_is_in_its_place_stays(directory, place):
    fd = directory.fd
    assert not directory.put_in_place()
    assert directory.fd == fd


def test_what_is_written_follows_the_directory_until_it_is_put_back(directory, place):
    rename(place)
    directory.write("facts.json", "{}", sync=False)
    assert (place.with_name("mine") / "facts.json").read_text() == "{}"
    assert not place.exists()


def test_it_moves_to_where_it_runs(directory, place, tmp_path):
    directory.move(str(tmp_path / "jobs" / "7" / "2"))
    directory.sync()
    assert not directory.put_in_place()
    assert not place.exists()
    assert directory.path == str(tmp_path / "jobs" / "7" / "2")


def test_a_file_is_read_in_it_and_at_its_path(directory, place):
    (place / "stop.json").write_text("one")
    assert set(directory.texts("stop.json")) == {b"one"}
    put_another(place)
    (place / "stop.json").write_text("two")
    assert directory.texts("stop.json") == [b"one", b"two"]


@pytest.mark.parametrize("kind", ["none", "link", "directory", "pipe"])
def test_what_a_job_puts_in_a_files_place_is_not_waited_for(directory, place, kind):
    odd = place / "stop.json"
    match kind:
        case "link":
            (place / "other").write_text("x")
            odd.symlink_to("other")
        case "directory":
            odd.mkdir()
        case "pipe":
            os.mkfifo(odd)
    assert b"".join(directory.texts("stop.json")) == b""


def test_no_link_is_followed_when_a_file_is_opened(directory, place, tmp_path):
    (tmp_path / "target").write_text("x")
    (place / "output.log").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        directory.open("output.log", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Directory(str(place / "output.log"))
