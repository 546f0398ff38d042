"""`leptonctl top`, key by key against prepared answers; tests/daemon/test_top.py has it on a terminal."""

from __future__ import annotations

import pytest

from leptond.cli.commands import top
from leptond.cli.framework.session import Session
from leptond.cli.text.top_view import Picture
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import RUNNING, Answer, Stub, make_job, make_status, page, problem

LOG = "/v1/jobs/45/log"


@pytest.fixture
def session(stub: Stub):
    one = Session()
    one.host = f"unix://{stub.path}"
    yield one
    one.close()


@pytest.fixture
def picture(session: Session, stub: Stub) -> Picture:
    """A job that runs, selected, and one that waits."""
    stub.on("GET", "/v1/status", make_status())
    stub.on("GET", "/v1/jobs", page(make_job(id=45, **RUNNING), make_job(id=47)))
    stub.on("GET", "/v1/gpus/history", {"items": [{"uuid": "GPU-0", "minutes": [{"utilization": 0.5}]}]})
    log(stub, "one\ntwo\n")
    one = Picture()
    top._look(session, one)
    return one


def log(stub: Stub, text: str, *, begins: int = 0) -> None:
    size = begins + len(text)
    headers = {"Content-Type": "text/plain", "Content-Range": f"bytes {begins}-{size - 1}/{size}"}
    pieces = [text.encode()]
    stub.on(
        "GET", LOG, Answer(status=206, pieces=pieces, headers={**headers, "Content-Length": str(len(text))})
    )


def test_in_a_pipe_it_says_what_to_use_instead(cli: Cli):
    result = cli("top")
    assert result.code == 2
    assert "leptonctl status" in result.err


def test_the_first_job_is_selected_and_its_output_shown(picture: Picture, stub: Stub):
    assert (picture.selected, picture.log, picture.stale) == (45, ["one", "two"], "")
    assert picture.history == {"GPU-0": [0.5]}
    assert stub.of("GET", LOG)[-1].headers["range"] == f"bytes=-{top.LOG_BYTES}"


def test_a_line_that_was_cut_is_not_shown(session: Session, picture: Picture, stub: Stub):
    log(stub, "f of a line\nwhole\n", begins=1000)
    top._look(session, picture)
    assert picture.log == ["whole"]
    log(stub, "a line without end", begins=1000)
    top._look(session, picture)
    assert picture.log == ["a line without end"], "better than nothing"


def test_an_empty_output_is_no_error(session: Session, picture: Picture, stub: Stub):
    stub.on("GET", LOG, problem(416, "there is nothing"))
    top._look(session, picture)
    assert (list(picture.log), picture.note) == ([], "")


def test_a_job_that_waits_has_no_output(session: Session, picture: Picture, stub: Stub):
    assert top._press(session, picture, "j")
    top._look(session, picture)
    assert (picture.selected, picture.log) == (47, ["it has not started yet"])
    top._press(session, picture, "k")
    assert picture.selected == 45


def test_a_job_that_has_gone_gives_its_place_to_the_first(session: Session, picture: Picture, stub: Stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=51)), page())
    top._look(session, picture)
    assert picture.selected == 51
    top._look(session, picture)
    assert (picture.selected, list(picture.log)) == (None, [])
    assert not top._press(session, picture, "c"), "there is nothing to cancel"


def test_a_daemon_that_is_away_leaves_the_picture_as_it_was(session: Session, picture: Picture, stub: Stub):
    stub.on("GET", "/v1/status", Answer(broken=True))
    top._look(session, picture)
    assert "does not answer" in picture.stale
    assert picture.log == ["one", "two"]
    stub.on("GET", "/v1/status", make_status())
    top._look(session, picture)
    assert picture.stale == ""


def test_a_refusal_is_a_note(session: Session, picture: Picture, stub: Stub):
    stub.on("GET", "/v1/gpus/history", problem(403, "it is not yours"))
    top._look(session, picture)
    assert picture.note == "it is not yours"


def test_only_the_second_c_on_the_same_job_cancels(session: Session, picture: Picture, stub: Stub):
    stub.on("POST", "/v1/jobs/45/cancel", make_job(id=45))
    stub.on("POST", "/v1/jobs/47/cancel", make_job(id=47))
    assert not top._press(session, picture, "c")
    assert "c once more cancels job 45" in picture.note
    top._press(session, picture, "j")
    top._press(session, picture, "c")
    top._press(session, picture, "x")  # any other key takes it back
    top._press(session, picture, "c")
    assert [asked.path for asked in stub.asked if asked.method == "POST"] == []
    assert top._press(session, picture, "c")
    assert [asked.path for asked in stub.asked if asked.method == "POST"] == ["/v1/jobs/47/cancel"]


@pytest.mark.parametrize(("held", "verb"), [(False, "hold"), (True, "release")])
def test_h_holds_and_releases(session: Session, picture: Picture, stub: Stub, held: bool, verb: str):
    stub.on("GET", "/v1/jobs", page(make_job(id=47, held=held)))
    stub.on("POST", f"/v1/jobs/47/{verb}", make_job(id=47))
    top._look(session, picture)
    assert top._press(session, picture, "h")
    assert len(stub.of("POST", f"/v1/jobs/47/{verb}")) == 1


@pytest.mark.parametrize(("key", "priority"), [("+", 6), ("=", 6), ("-", 4)])
def test_plus_and_minus_change_the_priority(
    session: Session, picture: Picture, stub: Stub, key: str, priority: int
):
    stub.on("GET", "/v1/jobs", page(make_job(id=47, priority=5)))
    stub.on("PATCH", "/v1/jobs/47", make_job(id=47, priority=priority))
    top._look(session, picture)
    assert top._press(session, picture, key)
    assert stub.of("PATCH", "/v1/jobs/47")[0].body == {"priority": priority}
    stub.on("PATCH", "/v1/jobs/47", problem(403, "too high", hint="ask an admin"))
    top._press(session, picture, key)
    assert picture.note == "too high. ask an admin"


def test_f_follows_and_lets_go(session: Session, picture: Picture):
    assert not top._press(session, picture, "f")
    assert picture.following
    top._press(session, picture, "f")
    assert not picture.following
