"""Files that are there whole or not at all."""

import pytest

from leptond.base import durable


def test_a_record_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    seen = []

    def sync(_: int) -> None:
        seen.append(sorted(file.read_text() for file in tmp_path.glob("exit.json")))
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(durable.os, "fsync", sync)
    with pytest.raises(OSError, match="broken"):
        durable.write_durably(str(tmp_path), "exit.json", '{"exit_code": 0}')
    assert seen == [[]], "nobody may read it before it is on disk"
    monkeypatch.undo()
    durable.write_durably(str(tmp_path), "exit.json", "old")
    monkeypatch.setattr(durable.os, "fsync", sync)
    with pytest.raises(OSError, match="broken"):
        durable.write_durably(str(tmp_path), "exit.json", "new")
    assert (tmp_path / "exit.json").read_text() == "old"


def test_what_was_reserved_takes_the_record_and_is_not_its_size(tmp_path):
    durable.reserve(str(tmp_path), "exit.json")
    assert (tmp_path / ".exit.json.tmp").stat().st_size == durable.RESERVED_BYTES
    durable.write_durably(str(tmp_path), "exit.json", "{}")
    assert [file.name for file in tmp_path.iterdir()] == ["exit.json"]
    assert (tmp_path / "exit.json").read_text() == "{}"


def test_no_room_to_reserve_is_no_error(tmp_path):
    durable.reserve(str(tmp_path / "absent"), "exit.json")
