"""The report channel of a real daemon: what jobs say arrives, survives restarts, and cannot be forged from
outside."""

import json
import socket
import sys
from pathlib import Path

from leptond.api.routes.progress import checkpoints
from leptond.store.database.events import Event
from tests.support.daemon import until

PYTHON = sys.executable
SRC = str(Path(__file__).parents[2])


def script(text: str) -> list[str]:
    """A job that runs Python with this source tree."""
    return [PYTHON, "-c", f"import sys; sys.path.insert(0, {SRC!r})\nfrom leptond import job\n{text}"]


def progress(daemon, job: int, **wanted) -> dict:
    """The job's progress once it shows these values."""

    def look():
        found = daemon.job(job)["progress"] or {}
        return found if all(found.get(name) == value for name, value in wanted.items()) else None

    return until(look, f"progress {wanted} of {daemon.job(job)}")


def test_a_training_is_followed_from_its_first_step_to_its_last(shared_daemon):
    done = shared_daemon.finished(
        shared_daemon.submit(
            *script(
                "for n in range(1, 301): job.report(step=n, total=300, loss=3.0 / n, lr=0.1)\n"
                "job.checkpointed(300)"
            )
        )
    )
    assert done["state"] == "succeeded"
    seen = done["progress"]
    assert (seen["step"], seen["total"], seen["checkpoint_step"]) == (300, 300, 300)
    assert seen["metrics"] == {"loss": 0.01, "lr": 0.1}
    assert seen["first_at"] <= seen["at"]
    curve = shared_daemon.get(f"/v1/jobs/{done['id']}/metrics").json
    assert curve["points"][0]["step"] == 1
    assert curve["points"][-1]["step"] == 300
    assert all(point["values"]["loss"] == 3.0 / point["step"] for point in curve["points"])
    events = shared_daemon.get(f"/v1/events?job={done['id']}").json["items"]
    assert 1 <= [event["type"] for event in events].count("job.progress") <= 2
    assert shared_daemon.get("/v1/jobs/99999/metrics").status == 404


def test_marker_lines_work_from_any_program(shared_daemon):
    shell = (
        'echo "::leptond step=1 total=4 loss=2.5"; echo "not ::leptond step=9"; printf "::leptond st";'
        'printf "ep=2 checkpoint=2\\n"; echo ::leptond step=3 nonsense loss=nan'
    )
    done = shared_daemon.finished(shared_daemon.submit("sh", "-c", shell))
    seen = done["progress"]
    assert (seen["step"], seen["total"], seen["checkpoint_step"]) == (3, 4, 2)
    assert seen["metrics"] == {"loss": None}
    assert shared_daemon.output(done["id"]).count("::leptond") == 4, "the output itself stays as it was"


def test_every_marker_line_arrives_however_the_output_is_cut(shared_daemon):
    shell = (
        "printf 'loading ...'; sleep 0.1; printf ' done\\n'; sleep 0.1; printf ' 10%%\\r 20%%';"
        "for i in 1 2 3 4 5 6 7; do echo ::leptond step=$i total=8 loss=$i; sleep 0.05; done;"
        "printf '::leptond step=8 loss=8'"
    )
    done = shared_daemon.finished(shared_daemon.submit("sh", "-c", shell))
    assert (done["progress"]["step"], done["progress"]["total"]) == (8, 8)
    curve = shared_daemon.get(f"/v1/jobs/{done['id']}/metrics").json
    seen = [(point["step"], point["values"]["loss"]) for point in curve["points"]]
    assert seen == [(step, step) for step in range(1, 9)]


def test_a_job_says_why_it_left(shared_daemon):
    submit = shared_daemon.submit
    diverged = submit(*script("job.leave('diverged', 'loss nan at step 7')"), retries=3)
    limit = submit(*script("assert job.should_stop(9999); job.leave()"), time_limit_s=600)
    under_a_launcher = submit("sh", "-c", '"$@" || exit 1', "sh", *script("job.leave('diverged')"), retries=3)
    ends = [shared_daemon.finished(one) for one in (diverged, limit, under_a_launcher)]
    assert [one["class"] for one in ends] == ["diverged", "timeout", "diverged"]
    assert [one["attempt"] for one in ends] == [1, 1, 1]
    assert "loss nan at step 7" in ends[0]["explanation"]


def test_reports_go_on_over_a_restart_of_the_daemon(daemon, tmp_path):
    text = (
        "import time, pathlib\n"
        "def until(name):\n"
        "    while not pathlib.Path(name).exists(): job.report(step=step); time.sleep(0.02)\n"
        "step = 1\n"
        f"until({str(tmp_path / 'away')!r}); step = 2; job.checkpointed(2)\n"
        f"until({str(tmp_path / 'back')!r})"
    )
    job = daemon.submit(*script(text))
    progress(daemon, job, step=1)
    daemon.kill()
    (tmp_path / "away").touch()
    daemon.start()
    # said while nobody listened, and said again since
    progress(daemon, job, step=2, checkpoint_step=2)
    (tmp_path / "back").touch()
    assert daemon.finished(job)["state"] == "succeeded"


def test_a_job_without_progress_is_stopped_as_hung(daemon):
    text = "import time\nfor n in range(3): job.report(step=n)\nprint('stuck', flush=True); time.sleep(600)"
    assert daemon.post("/v1/jobs", {"argv": ["true"], "no_progress_s": 0.5}).status == 422
    job = daemon.submit(*script(text), no_progress_s=2, grace_s=0, no_retry_on=["hang"])
    done = daemon.finished(job)
    assert (done["state"], done["class"]) == ("failed", "hang")
    assert done["attempts"][0]["rule"] == "we-stopped-a-hang"


def test_what_others_send_is_refused(shared_daemon, tmp_path):
    job = shared_daemon.submit("sh", "-c", "while [ ! -e $0 ]; do sleep 0.05; done", str(tmp_path / "end"))
    attempt = shared_daemon.reached(job, "running")["attempts"][0]["id"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        path = str(shared_daemon.socket.with_suffix(".jobs"))
        for data in (
            b"",
            b"\xff" * 60_000,
            b"{}",
            json.dumps({"v": 1, "attempt": "0" * 32, "step": 5}).encode(),
        ):
            one.sendto(data, path)
        one.sendto(json.dumps({"v": 1, "attempt": attempt, "step": 6}).encode(), path)
    assert progress(shared_daemon, job, step=6)["metrics"] == {}
    (tmp_path / "end").touch()
    assert shared_daemon.finished(job)["state"] == "succeeded"


def test_checkpoints_are_marks_of_the_curve():
    def told(number: int, attempt: int, saved: int | None) -> Event:
        data = {"step": number, "checkpoint_step": saved}
        return Event(id=number, at=float(number), type="job.progress", job_id=1, attempt=attempt, data=data)

    seen = [told(1, 1, None), told(2, 1, 50), told(3, 1, 50), told(4, 1, 100), told(5, 2, 100)]
    marks = checkpoints(seen)
    assert [(mark.attempt, mark.data) for mark in marks] == [
        (1, {"step": 50}),
        (1, {"step": 100}),
        (2, {"step": 100}),
    ]
    assert {mark.type for mark in marks} == {"job.checkpoint"}
