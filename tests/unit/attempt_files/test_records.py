"""What daemon, shim and job leave for each other, and what of it is believed."""

import errno
import json
import os
from types import SimpleNamespace

import pytest

from leptond.attempt_files import layout
from leptond.attempt_files.records import AttemptFiles, decode_exit_record
from leptond.base import nofollow

ATTEMPT = SimpleNamespace(id="a1", job_id=7, number=2)
RECORD = {"attempt_id": "a1", "boot_id": "b", "exit_code": 3}


@pytest.fixture
def files(tmp_path):
    one = AttemptFiles(tmp_path / "jobs")
    one.of(ATTEMPT).mkdir(parents=True)
    return one


def test_the_exit_record_is_that_of_the_attempt_or_none(files):
    assert files.exit_record(ATTEMPT) is None
    files.make_standby("a1")
    (files.standby("a1") / layout.EXIT).write_text(json.dumps({**RECORD, "exit_code": None}))
    assert files.exit_record(ATTEMPT).exit_code is None, "it never had its GO"
    (files.of(ATTEMPT) / layout.EXIT).write_text(json.dumps(RECORD))
    assert files.exit_record(ATTEMPT).exit_code == 3
    (files.of(ATTEMPT) / layout.EXIT).write_text(json.dumps({**RECORD, "attempt_id": "a2"}))
    assert files.exit_record(ATTEMPT) is None


def test_a_record_that_cannot_be_read_is_not_a_record_that_is_not_there(files, monkeypatch):
    def fails(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(nofollow, "read_file", fails)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.exit_record(ATTEMPT)


@pytest.mark.parametrize("what", ["directory", "fifo", "link"])
def test_what_a_job_has_put_in_the_place_of_its_records_is_not_read(files, tmp_path, what):
    secret = tmp_path / "secret"
    secret.write_text(json.dumps(RECORD))
    for name in (layout.EXIT, layout.LAST_WORD, layout.ERROR):
        path = files.of(ATTEMPT) / name
        match what:
            case "directory":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)  # it has no writer: an open would wait for ever
            case "link":
                path.symlink_to(secret)
    assert files.exit_record(ATTEMPT) is None
    assert files.last_word(ATTEMPT) is None
    assert files.error_file(ATTEMPT) is None


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"attempt_id": 1}', json.dumps(RECORD)[:-1]])
def test_half_a_record_is_none(data):
    assert decode_exit_record(data, "a1") is None


def test_words_of_another_attempt_are_not_believed(files):
    place = files.of(ATTEMPT)
    assert (files.last_word(ATTEMPT), files.error_file(ATTEMPT), files.log_tail(ATTEMPT)) == (
        None,
        None,
        ("", None),
    )
    word = {"attempt_id": "a1", "reason": "diverged", "detail": "loss is nan"}
    (place / layout.LAST_WORD).write_text(json.dumps(word))
    assert files.last_word(ATTEMPT).detail == "loss is nan"
    (place / layout.LAST_WORD).write_text(json.dumps({**word, "attempt_id": "a2"}))
    assert files.last_word(ATTEMPT) is None
    (place / layout.ERROR).write_bytes(b"\xff")
    assert files.error_file(ATTEMPT) == "\N{REPLACEMENT CHARACTER}"
    (place / layout.OUTPUT).write_text("out\n")
    tail, written_at = files.log_tail(ATTEMPT)
    assert (tail, written_at) == ("out\n", (place / layout.OUTPUT).stat().st_mtime)


def test_a_claim_is_that_of_this_very_attempt(files):
    assert files.claim_of(7, 2, "a1") is None
    identity = {"attempt_id": "a1", "claim": {"gpus": [{"uuid": "GPU-1"}]}}
    (files.place(7, 2) / layout.IDENTITY).write_text(json.dumps(identity))
    assert files.claim_of(7, 2, "a1") == {"gpus": [{"uuid": "GPU-1"}]}
    assert files.claim_of(7, 2, "a2") is None
    (files.place(7, 2) / layout.IDENTITY).write_text(json.dumps({"attempt_id": "a1"}))
    assert files.claim_of(7, 2, "a1") is None, "it has not been claimed"


def test_a_stop_is_written_whole(files):
    files.request_stop(ATTEMPT, "cancel", 2.5)
    text = (files.of(ATTEMPT) / layout.STOP).read_text()
    assert json.loads(text) == {"attempt_id": "a1", "reason": "cancel", "grace_s": 2.5}


def test_standby_directories_come_and_go(files):
    path = files.make_standby("a1")
    with pytest.raises(FileExistsError):
        files.make_standby("a1")
    assert files.standby_ids() == {"a1"}
    assert files.standby_identity("a1") is None
    (path / layout.IDENTITY).write_text(json.dumps({"boot_id": "b", "pid": 4, "start_ticks": 5}))
    assert files.standby_identity("a1").pid == 4
    (path / layout.SHIM_LOG).write_text("  Traceback\n")
    assert files.shim_errors("a1") == "Traceback"
    files.remove_standby("a1")
    assert (files.standby_ids(), files.shim_errors("a1")) == (set(), "")
    files.remove_standby("a1")


def test_a_probe_leaves_nothing(files):
    assert files.probe() == ""
    assert not (files.jobs_dir / layout.PROBE_DIR).exists()
    (files.jobs_dir / layout.PROBE_DIR).write_text("in the way")
    assert "Not a directory" in files.probe()
