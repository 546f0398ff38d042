"""The mark of a state directory."""

import pytest

from leptond.recovery.mark import MARK, Mark, Place, read_mark, write_mark

WHOLE = Mark(
    lineage="abc",
    starts=3,
    place=Place(path="/a", device=1, inode=2),
    former=("/b", "/c"),
    moved_to=Place(path="/d", device=3, inode=4),
)


@pytest.mark.parametrize("mark", [Mark(lineage="abc", starts=1), WHOLE])
def test_it_reads_as_it_was_written_and_nothing_else_is_left(tmp_path, mark):
    write_mark(tmp_path, Mark(lineage="before", starts=9, former=("/x",)))
    write_mark(tmp_path, mark)
    assert read_mark(tmp_path) == mark
    assert [path.name for path in tmp_path.iterdir()] == [MARK]


def test_the_mark_of_an_older_version_is_read(tmp_path):
    (tmp_path / MARK).write_text('{"lineage": "abc", "starts": 4}')
    assert read_mark(tmp_path) == Mark(lineage="abc", starts=4)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lineage": 3, "starts": 1}', '{"starts": 1}'])
def test_what_cannot_be_read_is_no_mark(tmp_path, text):
    assert read_mark(tmp_path) is None
    (tmp_path / MARK).write_text(text)
    assert read_mark(tmp_path) is None
