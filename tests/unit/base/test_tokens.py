"""Bearer tokens: made once, private to their owner, refused where they are not."""

import errno

import pytest

from leptond.base import tokens as tokens_module
from leptond.base.errors import StartRefused
from leptond.base.tokens import PREFIX, load_or_create, load_tokens


def test_two_tokens_are_made_and_stay(tmp_path):
    file = tmp_path / "config" / "token"
    made = load_tokens(file)
    assert made.full.startswith(PREFIX)
    assert made.full != made.read_only
    assert load_tokens(file) == made
    for path in (file, file.with_name("token.read-only")):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_that_others_can_read_is_refused(tmp_path):
    (tmp_path / "token").write_text(PREFIX + "x" * 30)
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(StartRefused, match="chmod 600") as found:
        load_or_create(tmp_path / "token")
    assert found.value.exit_code == 78


def test_a_token_that_can_be_guessed_is_refused(tmp_path):
    (tmp_path / "token").write_text("short")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(StartRefused, match="too short"):
        load_or_create(tmp_path / "token")


@pytest.mark.parametrize("left", ["", "\n", " " * 40, "\0" * 64])
def test_a_token_that_a_crash_left_unwritten_is_made(tmp_path, left):
    file = tmp_path / "token"
    file.write_text(left)
    file.chmod(0o600)
    made = load_or_create(file)
    assert made.startswith(PREFIX)
    assert load_or_create(file) == made
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_token_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "token").write_bytes(b"\xff" * 40)
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(StartRefused, match="remove it") as found:
        load_or_create(tmp_path / "token")
    assert found.value.exit_code == 78


def test_a_token_for_which_there_is_no_room_is_tried_again(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tokens_module, "write_durably", full)
    with pytest.raises(StartRefused, match="Make room first") as found:
        load_or_create(tmp_path / "token")
    assert found.value.exit_code == 75


def test_a_link_in_its_place_is_not_written_through(tmp_path):
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartRefused, match="cannot be written"):
        load_or_create(tmp_path / "token")
    assert not (tmp_path / "elsewhere").exists()
