"""The screen of `leptonctl top`, drawn without a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from leptond.cli.text.top_view import HELP, Picture, draw, sparkline
from leptond.core.jobs.states import State
from tests.unit.cli.stub import RUNNING, make_gpu, make_job, make_status, plain


def texts(picture: Picture, width: int = 100, height: int = 24) -> list[str]:
    return ["".join(text for text, _ in line) for line in draw(picture, width, height)]


@pytest.fixture
def picture() -> Picture:
    jobs = [make_job(id=45, **RUNNING), make_job(id=47), make_job(id=48)]
    counts: dict[str, int] = dict.fromkeys(State, 0) | {State.RUNNING: 1, State.PENDING: 2}
    gpus = [make_gpu(0, job_id=45), make_gpu(1)]
    status = make_status(gpus=gpus, counts=counts, running=[jobs[0]], oldest_wait_s=90.0)
    return Picture(status=plain(status), queue=plain(jobs))


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (200, 60), (10, 5)])
def test_it_fills_the_terminal_and_no_more(picture: Picture, width: int, height: int) -> None:
    lines = texts(picture, width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)


def test_it_says_who_has_which_gpu_and_what_waits(picture: Picture) -> None:
    shown = texts(picture, 160)
    assert shown[0].startswith("leptond  1 running, 2 waiting, 1/2 GPUs busy, longest wait 1m30s")
    assert "45 train.py (ana)" in shown[1]
    assert shown[2].endswith("free")
    assert any("47" in line and "Resources: needs 4 GPUs, 1 free" in line for line in shown)
    assert shown[-1] == HELP


def test_before_the_first_answer_and_after_the_last() -> None:
    assert texts(Picture())[1] == "connecting"
    assert texts(Picture(stale="no daemon for 3 s"))[1] == "no daemon for 3 s"


def test_a_note_takes_the_place_of_the_help(picture: Picture) -> None:
    picture.note = "job 47 is cancelled"
    assert texts(picture)[-1] == "job 47 is cancelled"


def test_the_selection_moves_within_the_queue(picture: Picture) -> None:
    picture.move(1)
    assert picture.selected == 45
    picture.armed = 45
    picture.move(2)
    assert (picture.selected, picture.armed) == (48, None)
    picture.move(5)
    assert picture.selected == 48
    picture.move(-9)
    assert picture.selected == 45
    assert picture.job() == picture.queue[0]
    picture.queue = ()
    picture.move(1)
    assert (picture.selected, picture.job()) == (None, None)


def test_the_log_of_the_selected_job_is_below_and_may_take_the_whole_lower_half(picture: Picture) -> None:
    picture.log = [f"step {number}" for number in range(100)]
    picture.selected = 45
    small = [line for line in texts(picture) if line.startswith("step")]
    picture.following = True
    whole = [line for line in texts(picture) if line.startswith("step")]
    assert small[-1] == whole[-1] == "step 99"
    assert len(whole) > len(small)


def test_what_a_job_is_called_cannot_steer_the_terminal(picture: Picture) -> None:
    hostile: list[dict[str, Any]] = [plain(make_job(id=45)) | {"name": "a\x1b[2Jb\nc"}]
    picture.queue = hostile
    shown = "\n".join(texts(picture))
    assert "\x1b" not in shown
    assert "a[2Jb c" in shown


def test_a_sparkline_marks_what_is_not_known() -> None:
    assert sparkline([], 3) == "···"
    assert sparkline([0.0, 0.01, 1.0, None], 4) == "▁▁█·"
    assert sparkline([1.0] * 9, 4) == "████"


def test_a_long_name_leaves_room_for_state_and_reason(picture: Picture) -> None:
    long = "finetune-llama-3-70b-instruct-lr3e-4-warmup100-seed12-run0007x"
    job = {
        **picture.queue[0],
        "name": long,
        "state": "pending",
        "reason": "Resources",
        "reason_detail": "x" * 99,
    }
    picture.queue = [job]
    for width in (60, 80, 100, 140):
        lines = ["".join(text for text, _ in line) for line in draw(picture, width, 30)]
        row = next(line for line in lines if line.startswith(str(job["ref"]) + " "))
        assert len(row) <= width
        assert "pending" in row
        assert "Resources: xxx" in row
        assert row.endswith("…")
        assert "run0007x" in row or "07x" in row


def test_all_that_failed_today_is_counted(picture: Picture) -> None:
    picture.status = {**(picture.status or {}), "failed_today": 13}
    head = "".join(text for text, _ in draw(picture, 140, 30)[0])
    assert "13 failed today" in head
