"""Files in directories of others: no link is followed, and nothing but regular files is read."""

import errno
import os
from pathlib import Path

import pytest

from leptond.base.nofollow import (
    ABSENT,
    UntrustedPath,
    open_directory,
    open_regular,
    open_trusted,
    read_file,
    read_regular,
)

OWN = frozenset({os.getuid()})


@pytest.fixture
def tree(tmp_path):
    """``above/outer/inner/file``, and the open directory ``inner``."""
    inner = tmp_path / "above" / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("content")
    return inner


@pytest.fixture
def fd(tree):
    one = os.open(tree, os.O_RDONLY)
    yield one
    os.close(one)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def absent(call):
    with pytest.raises(OSError) as refused:  # noqa: PT011
        call()
    assert refused.value.errno in ABSENT
    return refused.value.errno


def test_a_file_is_read_up_to_the_limit(tree):
    assert read_file(tree / "file", 100) == b"content"
    assert read_file(tree / "file", 3) == b"con"


def test_links_above_the_own_directories_are_the_administrators(tree, tmp_path):
    (tmp_path / "short").symlink_to(tmp_path / "above")
    assert read_file(tmp_path / "short" / "outer" / "inner" / "file", 100) == b"content"


@pytest.mark.parametrize("own", [1, 2])
def test_a_link_among_the_own_directories_is_not_followed(tree, tmp_path, own):
    path = tree if own == 1 else tree.parent
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))
    absent(lambda: os.close(open_directory(tree, own=own)))
    absent(lambda: read_file(tree / "file", 100, own=own))


def put_link(tree):
    (tree / "odd").symlink_to(tree / "file")


def put_second_name(tree):
    os.link(tree / "file", tree / "odd")


def put_pipe(tree):
    os.mkfifo(tree / "odd")


def put_directory(tree):
    (tree / "odd").mkdir()


def put_nothing(tree):
    pass


@pytest.mark.parametrize("put", [put_link, put_second_name, put_pipe, put_directory, put_nothing])
def test_what_is_no_regular_file_of_its_own_is_not_read(tree, fd, put):
    put(tree)
    before = open_files()
    absent(lambda: read_regular("odd", fd, 100))
    assert open_files() == before


def test_a_second_name_is_read_where_that_is_meant(tree, fd):
    put_second_name(tree)
    assert read_regular("odd", fd, 100, linked=True) == b"content"
    os.close(open_regular("odd", fd, linked=True))


@pytest.fixture
def state(tmp_path):
    """A directory that no way may lead through."""
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def reach(path, state, *, uids=OWN, make=False):
    fd = open_trusted(path, uids=uids, not_below=state.stat(), make=make)
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink())
    finally:
        os.close(fd)


def test_the_missing_parts_of_a_way_are_made_only_where_asked(tmp_path, state):
    wanted = tmp_path / "a" / "b"
    with pytest.raises(FileNotFoundError):
        reach(wanted, state)
    assert not (tmp_path / "a").exists()
    assert reach(wanted, state, make=True) == str(wanted)
    assert reach(wanted, state) == str(wanted)


def test_a_link_is_followed_if_its_owner_is_trusted(tmp_path, state):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")  # relative to where it stands
    assert reach(tmp_path / "link" / "below", state) == str(tmp_path / "real" / "below")
    with pytest.raises(UntrustedPath, match="somebody else"):
        reach(tmp_path / "link" / "below", state, uids=frozenset({os.getuid() + 1}))


def test_no_way_leads_through_the_forbidden_directory(tmp_path, state):
    (state / "jobs").mkdir()
    (tmp_path / "link").symlink_to(state)
    for way in (state, state / "jobs", tmp_path / "link", tmp_path / "link" / "new"):
        with pytest.raises(UntrustedPath, match="state directory"):
            reach(way, state, make=True)
    assert sorted(state.iterdir()) == [state / "jobs"], "nothing was made there"


def test_links_in_a_circle_end(tmp_path, state):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(UntrustedPath):
        reach(tmp_path / "one", state)


def test_a_file_on_the_way_is_no_directory(tmp_path, state):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as refused:
        reach(tmp_path / "file" / "below", state, make=True)
    assert refused.value.errno == errno.ENOTDIR
