"""What is submitted is what runs: with a whole daemon, from the door to the program."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from leptond import Client
from tests.support.daemon import PYTHON, Daemon, until


def leptonctl(daemon: Daemon, cwd: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """Standard output of a call that succeeds."""
    done = subprocess.run(
        [PYTHON, "-m", "leptond.cli", *words],
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(cwd),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "LEPTOND_HOST": f"unix://{daemon.socket}",
            **(env or {}),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def output(daemon: Daemon, job: int | str) -> str:
    return daemon.get(f"/v1/jobs/{job}/log").data.decode()


def test_a_script_runs_as_it_was_at_the_submit_also_again_and_after_a_crash(daemon: Daemon, tmp_path: Path):
    work = tmp_path / "w k"
    work.mkdir()
    script = work / "job.sh"
    script.write_text(
        '#!/bin/sh -e\n#LEPTON --hold -n told\necho "v1 $1 $LEPTOND_SCRIPT $PWD ${0##*/}"\nexit 3\n'
    )
    job = int(
        leptonctl(daemon, work, "submit", "-q", "--retries", "1", "--retry-delay", "0.1", "job.sh", "a b")
    )
    script.write_text("echo v2\n")
    daemon.kill()
    daemon.start()
    assert leptonctl(daemon, work, "show", str(job), "--script").endswith("exit 3\n")
    daemon.post(f"/v1/jobs/{job}/release")
    ended = daemon.finished(job)
    line = f"v1 a b {script} {work} job.sh\n"
    assert (ended["name"], ended["exit_code"], ended["attempt"]) == ("told", 3, 2)
    assert [daemon.get(f"/v1/jobs/{job}/log?attempt={n}").data.decode() for n in (1, 2)] == [line, line]
    copies = list(daemon.state_dir.glob(f"jobs/{job}/*/script/job.sh"))
    assert len(copies) == 2
    assert {path.stat().st_mode & 0o777 for path in copies} == {0o700}
    again = daemon.post(f"/v1/jobs/{job}/retry", {"retries": 0}).json
    assert [str(script) in word for word in again["warnings"]] == [True]
    daemon.finished(again["id"])
    assert output(daemon, again["id"]) == line
    for one in (job, again["id"]):
        assert daemon.request("DELETE", f"/v1/jobs/{one}").status == 204
    assert not list(daemon.state_dir.glob("jobs/*/*/script/job.sh"))


def test_members_of_an_array_run_one_script_and_a_change_of_other_files_is_noted(
    shared_daemon: Daemon, tmp_path: Path
):
    (tmp_path / "r.sh").write_text("echo v1\n")
    copied = int(leptonctl(shared_daemon, tmp_path, "submit", "-q", "--hold", "--array", "0-1", "r.sh"))
    named = int(
        leptonctl(shared_daemon, tmp_path, "submit", "-q", "--hold", "--array", "0-1", "--", "sh", "r.sh")
    )
    quiet = int(leptonctl(shared_daemon, tmp_path, "submit", "-q", "--", "sh", "r.sh"))
    shared_daemon.finished(quiet)
    (tmp_path / "r.sh").write_text("echo v2\n")
    for array in (copied, named):
        shared_daemon.post(f"/v1/arrays/{array}/release")
        for member in (0, 1):
            shared_daemon.finished(f"{array}_{member}")
    assert [output(shared_daemon, f"{copied}_{n}") for n in (0, 1)] == ["v1\n"] * 2
    assert [output(shared_daemon, f"{named}_{n}") for n in (0, 1)] == ["v2\n"] * 2
    said = [
        shared_daemon.get(f"/v1/jobs/{array}_1").json["attempts"][0]["notes"] for array in (copied, named)
    ]
    assert said[0] == []
    assert said[1][0]["kind"] == "source-changed"
    assert f"{tmp_path}/r.sh was changed at " in said[1][0]["text"]
    assert shared_daemon.get(f"/v1/jobs/{quiet}").json["attempts"][0]["notes"] == []
    shown = leptonctl(shared_daemon, tmp_path, "show", f"{named}_1")
    assert f"  1: {tmp_path}/r.sh was changed at " in shown
    member = shared_daemon.get(f"/v1/jobs/{named}_1").json
    assert [one["path"] for one in member["sources"]] == [f"{tmp_path}/r.sh"]
    events = shared_daemon.get(f"/v1/events?job={member['id']}&type=job.source_changed").json["items"]
    assert [one["data"]["text"] for one in events] == [said[1][0]["text"]]


def test_python_and_the_command_line_send_the_same(shared_daemon: Daemon, tmp_path: Path, monkeypatch):
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    python = venv / "python"
    python.write_text('#!/bin/sh\necho "mine $VIRTUAL_ENV $*"\n')
    python.chmod(0o755)
    (tmp_path / "go.sh").write_text("echo kept\n")
    env = {"PATH": f"{venv}:/usr/bin:/bin", "VIRTUAL_ENV": str(venv.parent)}
    jobs = [
        int(leptonctl(shared_daemon, tmp_path, "submit", "-q", "--", *words, env=env))
        for words in (["python", "train.py"], ["go.sh"])
    ]
    monkeypatch.chdir(tmp_path)
    for name in ("PATH", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, env[name])
    for name in ("CONDA_PREFIX", "CONDA_DEFAULT_ENV"):
        monkeypatch.delenv(name, raising=False)
    with Client(f"unix://{shared_daemon.socket}") as lept:
        jobs.append(lept.submit(["python", "train.py"]).id)
        jobs += [one.id for one in lept.submit_many([{"argv": ["go.sh"]}])]
    found = [shared_daemon.finished(job) for job in jobs]
    assert [output(shared_daemon, job) for job in jobs] == [f"mine {venv.parent} train.py\n", "kept\n"] * 2
    for mine, theirs in ((0, 2), (1, 3)):
        assert found[mine]["spec"] == found[theirs]["spec"]
        assert found[mine]["script_sha256"] == found[theirs]["script_sha256"]


def test_over_http_a_script_is_a_field_and_only_its_owner_reads_it(shared_daemon: Daemon):
    spec = {"argv": ["/nowhere/x.sh", "1"], "script": "#!/bin/sh\necho curl $1\n", "cwd": "/"}
    job = shared_daemon.post("/v1/jobs", spec).json["id"]
    shared_daemon.finished(job)
    assert output(shared_daemon, job) == "curl 1\n"
    assert shared_daemon.get(f"/v1/jobs/{job}/script").data.decode() == spec["script"]
    assert "script" not in shared_daemon.get(f"/v1/jobs/{job}").json["spec"]
    other = shared_daemon.submit("true")
    assert shared_daemon.get(f"/v1/jobs/{other}/script").status == 404


def test_an_output_directory_is_made_and_a_copy_that_fails_is_said(shared_daemon: Daemon, tmp_path: Path):
    leptonctl(shared_daemon, tmp_path, "run", "-o", "new/%x.log", "-n", "made", "--", "echo", "hi")
    log = tmp_path / "new" / "made.log"
    until(lambda: log.is_file() and not log.is_symlink(), "the copy")
    assert log.read_text() == "hi\n"
    (tmp_path / "file").touch()
    refused = shared_daemon.post("/v1/jobs", {"argv": ["true"], "output": f"{tmp_path}/file/x.log"})
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/output")
    job = shared_daemon.submit(
        "sh", "-c", f"rm -rf {tmp_path}/new; touch {tmp_path}/new", output=f"{tmp_path}/new/y"
    )
    shared_daemon.finished(job)
    notes = until(lambda: shared_daemon.get(f"/v1/jobs/{job}").json["attempts"][0]["notes"], "a note")
    assert "its output could not be put at" in notes[0]["text"]


@pytest.mark.parametrize("field", ["cwd", "output", "script"])
def test_nul_is_refused_in_each_text_that_reaches_the_system(shared_daemon: Daemon, field: str):
    body = {"argv": ["true"], field: "/tmp/a\0b"}
    refused = shared_daemon.post("/v1/jobs", body)
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, f"/{field}")


def test_a_key_that_comes_again_is_answered_as_it_was(shared_daemon: Daemon, tmp_path: Path):
    work = tmp_path / "work"
    body = {"argv": ["no-such-program"], "cwd": str(work), "hold": True}
    headers = {"Idempotency-Key": f"again-{os.getpid()}"}
    first = shared_daemon.request("POST", "/v1/jobs", body, headers)
    assert first.status == 201
    assert len(first.json["warnings"]) == 2
    work.mkdir()  # nothing to warn of any more
    again = shared_daemon.request("POST", "/v1/jobs", body, headers)
    assert (again.status, again.data) == (200, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    shared_daemon.post(f"/v1/jobs/{first.json['id']}/cancel")
