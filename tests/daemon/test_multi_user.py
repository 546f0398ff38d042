"""Jobs that run as their submitters, with real accounts: what they may do, and what they may not."""

import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.accounts import NEEDS_ROOT, locked, multi_user_daemon, people
from tests.support.daemon import TOP, Daemon, gone, until

pytestmark = NEEDS_ROOT

PYTHON = "/usr/bin/python3"
"""One that every account can start."""


@pytest.fixture(scope="module")
def persons():
    with people("lta", "ltb") as found:
        yield found


@pytest.fixture(scope="module")
def daemon(persons):
    with multi_user_daemon() as one:
        yield one


def attempt_dir(daemon, job: int) -> Path:
    return daemon.state_dir / "jobs" / str(job) / str(daemon.job(job)["attempts"][-1]["number"])


def shim_of(daemon, job: int) -> int:
    stat_text = Path(f"/proc/{daemon.pid(job)}/stat").read_text()
    return int(stat_text.rpartition(")")[2].split()[1])


# -- as whom ------------------------------------------------------------------------------------------------


def test_a_job_is_its_submitter_in_every_respect(daemon, persons):
    ana, _ = persons
    text = (
        "id -u; id -ru; id -g; umask; echo $HOME $USER $LOGNAME $SHELL; pwd; "
        "grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)' /proc/self/status; cat /proc/self/oom_score_adj"
    )
    job = ana.submit(daemon, "sh", "-c", text)
    ended = daemon.finished(job)
    assert ended["state"] == "succeeded", (ended["explanation"], daemon.output(job))
    lines = daemon.output(job).splitlines()
    assert lines[:3] == [str(ana.uid), str(ana.uid), str(ana.gid)]
    assert lines[3] == "0077"
    assert lines[4] == f"{ana.home} {ana.name} {ana.name} /bin/sh"
    assert lines[5] == str(ana.home)
    assert {line.split()[1] for line in lines[6:10]} == {"0000000000000000"}
    assert lines[10].split()[1] == "1"
    assert lines[11] == "0"


def test_it_has_all_groups_of_its_submitter_and_none_of_the_daemon(daemon, persons):
    ana, bob = persons
    locked("usermod", "-a", "-G", f"games,{bob.name}", ana.name)
    try:
        wanted = set(os.getgrouplist(ana.name, ana.gid))
        job = ana.submit(daemon, "id", "-G")
        daemon.finished(job)
        assert set(map(int, daemon.output(job).split())) == wanted
        assert 0 not in wanted
    finally:
        locked("usermod", "-G", "", ana.name)


def test_root_has_no_jobs_unless_it_is_permitted(daemon, persons):
    answer = daemon.post("/v1/jobs", {"argv": ["true"]})
    assert answer.status == 403
    assert "jobs of root do not run" in answer.json["detail"]
    assert "allow_root_jobs" in answer.json["hint"]
    with multi_user_daemon(LEPTOND_ACCOUNTS__ALLOW_ROOT_JOBS="true") as other:
        job = other.submit("sh", "-c", "id -u; id -G")
        assert other.finished(job)["state"] == "succeeded", other.job(job)
        assert other.output(job).splitlines()[0] == "0"


def test_accounts_of_the_system_and_denied_ones_have_none(persons):
    ana, bob = persons
    with multi_user_daemon(
        LEPTOND_ACCOUNTS__MIN_UID=str(max(ana.uid, bob.uid)),
        LEPTOND_ACCOUNTS__DENIED_USERS=json.dumps([bob.name]),
    ) as other:
        lower = min(persons, key=lambda one: one.uid)
        for person, word in ((bob, "may not run jobs"), (lower, "account")):
            answer = person.request(other, "POST", "/v1/jobs", {"argv": ["true"]})
            assert (answer.status, word in answer.json["detail"]) == (403, True), answer.json


def test_an_account_that_is_another_one_by_now_ends_the_job_with_a_reason(daemon, persons):
    with people("ltc") as [cleo]:
        first = cleo.submit(daemon, "sleep", "0.1", hold=True)
        gone_for_good = cleo.submit(daemon, "id", hold=True)
        locked("usermod", "-l", f"{cleo.name}x", cleo.name)
        try:
            daemon.post(f"/v1/jobs/{first}/release")
            ended = daemon.finished(first)
        finally:
            locked("usermod", "-l", cleo.name, f"{cleo.name}x")
        assert (ended["state"], ended["class"]) == ("failed", "config"), ended
        assert cleo.name in ended["explanation"]
        assert f"{cleo.name}x" in ended["explanation"]
    daemon.post(f"/v1/jobs/{gone_for_good}/release")
    ended = daemon.finished(gone_for_good)
    assert (ended["state"], ended["class"]) == ("failed", "config"), ended
    assert "there is no account" in ended["explanation"]
    assert len(ended["attempts"]) == 1


def test_the_database_keeps_the_uid_for_arrays_and_retries(daemon, persons):
    ana, _ = persons
    array = ana.submit(daemon, "sh", "-c", 'test "$(id -u)" = "$WANTED"', array="0-199", hold=True)
    for ref in (f"{array}_3", f"{array}_180"):
        answer = ana.request(daemon, "PATCH", f"/v1/jobs/{ref}", {"priority": 5})
        assert answer.status == 200, answer.data
    job = ana.submit(daemon, "sh", "-c", "id -u; exit 3")
    assert daemon.finished(job)["exit_code"] == 3
    again = daemon.post(f"/v1/jobs/{job}/retry")  # by root: it stays hers
    assert again.status == 201, again.data
    daemon.finished(again.json["id"])
    assert daemon.output(again.json["id"]).strip() == str(ana.uid)
    assert daemon.job(again.json["id"])["user"] == ana.name
    ana.request(daemon, "POST", f"/v1/arrays/{array}/cancel")


# -- what a job cannot do -----------------------------------------------------------------------------------

HOSTILE = r"""
import ctypes, os, signal, sys
shim, other, daemon, state = int(sys.argv[1]) or os.getppid(), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def tried(what, call):
    try:
        got = call()
    except OSError as error:
        print(what, error.errno, flush=True)
    else:
        print(what, "DONE", got, flush=True)
libc = ctypes.CDLL(None, use_errno=True)
def trace(pid):
    if libc.ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "")
def vm(pid):
    class V(ctypes.Structure): _fields_ = [("b", ctypes.c_void_p), ("n", ctypes.c_size_t)]
    buffer = ctypes.create_string_buffer(8)
    mine, theirs = V(ctypes.addressof(buffer), 8), V(0x400000, 8)
    if libc.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "")
def read(path):
    return open(path, "rb").read(1)
for name, pid in (("shim", shim), ("other", other), ("daemon", daemon)):
    for number in (0, signal.SIGCONT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
        tried(f"{name} signal", lambda: os.kill(pid, number))
    tried(f"{name} pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL))
    tried(f"{name} trace", lambda: trace(pid))
    tried(f"{name} memory", lambda: vm(pid))
    for file in ("environ", "mem", "fd", "cwd", "maps", "fdinfo"):
        path = f"/proc/{pid}/{file}"
        look = os.listdir if file.startswith("fd") else os.readlink if file == "cwd" else read
        tried(f"{name} {file}", lambda: look(path))
    tried(f"{name} nice", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    tried(f"{name} affinity", lambda: os.sched_setaffinity(pid, {0}))
tried("root", lambda: os.setuid(0))
tried("groups", lambda: os.setgroups([0]))
for path in sys.argv[5:]:
    tried(f"read {path}", lambda: open(path, "rb").read(1))
    tried(f"write {path}", lambda: open(path, "r+b"))
    tried(f"remove {path}", lambda: os.unlink(path))
    tried(f"replace {path}", lambda: os.symlink("/etc/passwd", path))
tried("list state", lambda: os.listdir(state))
tried("list jobs", lambda: os.listdir(state + "/jobs"))
tried("make", lambda: os.mkdir(state + "/jobs/99999"))
"""


def test_a_job_cannot_read_signal_trace_or_forge_anything_that_is_not_its_own(daemon, persons):
    ana, bob = persons
    theirs = ana.submit(daemon, "sleep", "600", env={"SECRET": "of-ana"}, gpus=1)
    daemon.reached(theirs, "running")
    pid = daemon.pid(theirs)
    shim = shim_of(daemon, theirs)
    state, place = daemon.state_dir, attempt_dir(daemon, theirs)
    files = [
        *(str(path) for path in state.iterdir() if path.is_file()),
        *(str(place / name) for name in ("identity.json", "exit.json", "lock", "output.log", "shim.log")),
        str(place / "stop.json"),
        str(place / "own" / "word.json"),
        str(state / "checkpoints" / str(theirs) / "x"),
    ]
    assert any(name.endswith("leptond.db") for name in files)
    program = bob.write("hostile.py", HOSTILE)
    words = [PYTHON, str(program), "0", str(pid), str(daemon.process.pid), str(state), *files]
    one = bob.submit(daemon, *words)
    two = bob.submit(daemon, PYTHON, str(program), str(shim), *words[3:])
    for job in (one, two):
        ended = daemon.finished(job)
        assert ended["state"] == "succeeded", (ended["explanation"], daemon.output(job))
        lines = daemon.output(job).splitlines()
        assert len(lines) > 60
        done = [line for line in lines if " DONE" in line]
        assert done == [], done
    assert daemon.job(theirs)["state"] == "running"
    ana.request(daemon, "POST", f"/v1/jobs/{theirs}/cancel", {"grace_s": 0})
    assert daemon.finished(theirs)["state"] == "cancelled"


FORGER = """
import json, os, sys, time
d = os.environ["LEPTOND_ATTEMPT_DIR"]
top = os.path.dirname(d)
def tried(call):
    try: call()
    except OSError as error: return
    print("FORGED", flush=True)
for name in ("exit.json", "identity.json", "stop.json", "lock", "output.log", ".exit.json.tmp"):
    tried(lambda: os.rename(f"{top}/{name}", f"{top}/x"))
    if name != "output.log": tried(lambda: open(f"{top}/{name}", "w"))
tried(lambda: os.rename(top, top + "x"))
tried(lambda: os.rename(d, d + "x"))
tried(lambda: os.mkdir(os.path.dirname(top) + "/99"))
# in its own directory it may put what it likes: links, FIFOs, a directory in the place of a file
os.mkfifo(d + "/word.json"); os.symlink(sys.argv[1], d + "/error.json")
os.symlink(sys.argv[1], d + "/.tune.json.tmp"); os.mkfifo(d + "/.stop.json.tmp"); os.mkdir(d + "/tune.json")
print("ready", flush=True)
sys.exit(int(sys.argv[2])) if len(sys.argv) > 2 else time.sleep(600)
"""


SECRET = "root:secret-of-root"


def secret_of_root(daemon) -> Path:
    """A file that root alone may read."""
    path = daemon.state_dir.parent / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def test_a_job_forges_no_end_and_its_links_lead_the_daemon_nowhere(daemon, persons):
    _, bob = persons
    secret = secret_of_root(daemon)
    program = bob.write("forger.py", FORGER)
    job = bob.submit(daemon, PYTHON, str(program), str(secret), "7")
    ended = daemon.finished(job)
    assert (ended["state"], ended["exit_code"]) == ("failed", 7), (ended, daemon.output(job))
    assert daemon.output(job) == "ready\n"
    assert SECRET not in json.dumps(ended)
    job = bob.submit(daemon, PYTHON, str(program), str(secret))
    daemon.printed(job, "ready")
    assert bob.request(daemon, "POST", f"/v1/jobs/{job}/cancel", {"grace_s": 0}).status == 202
    assert daemon.finished(job)["state"] == "cancelled"
    assert "FORGED" not in daemon.output(job)
    assert secret.read_text() == SECRET


def test_the_files_of_an_attempt_are_the_daemons_and_the_output_is_the_submitters(daemon, persons):
    ana, bob = persons
    job = ana.submit(daemon, "echo", "hello")
    daemon.finished(job)
    place = attempt_dir(daemon, job)
    assert stat.S_IMODE(place.stat().st_mode) == 0o711
    owners = {path.name: path.stat().st_uid for path in place.iterdir()}
    assert owners.pop("output.log") == owners.pop("own") == ana.uid
    assert stat.S_IMODE((place / "output.log").stat().st_mode) == 0o600
    assert set(owners.values()) == {0}
    for path in (daemon.state_dir, daemon.state_dir / "jobs", daemon.state_dir / "checkpoints", place.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o711, path
    assert ana.run("cat", str(place / "output.log")).stdout == "hello\n"
    assert bob.run("cat", str(place / "output.log")).returncode != 0
    open_to_others = [
        path
        for path in daemon.state_dir.iterdir()
        if path.lstat().st_mode & 0o077 and not path.is_dir() and not path.is_socket()
    ]
    assert open_to_others == []


# -- homes, directories, scripts, output --------------------------------------------------------------------


def test_a_home_that_is_closed_to_all_others_has_script_directory_and_output(daemon, persons):
    ana, bob = persons
    script = ana.write("work/job.sh", "#!/bin/sh\necho in $(pwd) as $(id -un)\n", 0o700)
    output = ana.home / "work" / "out" / "%j.txt"
    job = ana.submit(daemon, str(script), cwd=str(script.parent), output=str(output))
    ended = daemon.finished(job)
    assert ended["state"] == "succeeded", (ended["explanation"], daemon.output(job))
    written = ana.home / "work" / "out" / f"{job}.txt"
    until(lambda: written.is_file() and not written.is_symlink(), "the copy of the output")
    assert written.read_text() == f"in {script.parent} as {ana.name}\n"
    assert (written.stat().st_uid, written.parent.stat().st_uid) == (ana.uid, ana.uid)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (written, written.parent)] == [0o600, 0o700]
    foreign = bob.submit(daemon, str(script), cwd=str(script.parent))
    ended = daemon.finished(foreign)
    assert (ended["state"], ended["class"]) == ("failed", "config")
    assert "cannot enter the directory" in ended["explanation"]


def test_a_script_that_is_kept_runs_for_its_submitter_and_is_read_by_no_other(daemon, persons):
    ana, bob = persons
    text = "#!/bin/sh\n# secret-in-the-script\nid -un; cat $0 | grep -c secret; sleep 600\n"
    answer = ana.request(
        daemon, "POST", "/v1/jobs", {"argv": ["./job.sh", "a b"], "script": text, "cwd": str(ana.home)}
    )
    assert answer.status == 201, answer.data
    job = answer.json["id"]
    daemon.printed(job, "2\n")
    copy = attempt_dir(daemon, job) / "script" / "job.sh"
    assert "secret" in ana.run("cat", str(copy)).stdout
    assert bob.run("cat", str(copy)).returncode != 0
    ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel", {"grace_s": 0})
    daemon.finished(job)


@pytest.mark.parametrize("kind", ["link", "fifo", "others", "roots"])
def test_output_at_a_link_a_fifo_or_a_file_of_others_does_nothing(daemon, persons, kind):
    ana, bob = persons
    target = ana.write("precious.txt", "hers\n", 0o644)
    place = bob.home / f"trap-{kind}"
    secret = secret_of_root(daemon)
    with bob.acting():
        if kind == "link":
            place.symlink_to(target)
        elif kind == "fifo":
            os.mkfifo(place)
    path = {"others": str(target), "roots": str(secret)}.get(kind, str(place))
    answer = bob.request(daemon, "POST", "/v1/jobs", {"argv": ["echo", "x"], "output": path})
    # what is seen at the submit is refused; what is exchanged later is found when it is written
    assert answer.status == 422, answer.data
    later = bob.home / f"later-{kind}" / "out"
    with bob.acting():
        later.parent.mkdir()
    answer = bob.request(
        daemon,
        "POST",
        "/v1/jobs",
        {
            "argv": ["sh", "-c", f"ln -sf {path} {later}.n && mv -T {later}.n {later}; echo x"],
            "output": str(later),
        },
    )
    job = answer.json["id"]
    daemon.finished(job)
    until(lambda: daemon.job(job)["attempts"][0]["notes"] or later.is_file(), "the end of the copy")
    assert target.read_text() == "hers\n"
    assert secret.read_text() == SECRET
    assert target.stat().st_uid == ana.uid


def test_output_into_a_directory_of_another_is_refused_at_the_submit(daemon, persons):
    ana, bob = persons
    answer = bob.request(
        daemon, "POST", "/v1/jobs", {"argv": ["true"], "output": str(ana.home / "new" / "x")}
    )
    assert answer.status == 422 or daemon.finished(answer.json["id"])
    assert not (ana.home / "new").exists()


def test_files_of_others_are_not_looked_at_for_a_submit(daemon, persons):
    ana, bob = persons
    secret = ana.write("train.py", "import torch\n", 0o600)
    answer = bob.request(
        daemon, "POST", "/v1/jobs", {"argv": [PYTHON, str(secret)], "cwd": "/", "hold": True}
    )
    own = ana.request(daemon, "POST", "/v1/jobs", {"argv": [PYTHON, str(secret)], "cwd": "/", "hold": True})
    assert any("looks like a training" in one for one in own.json["warnings"])
    assert not any("looks like" in one for one in answer.json["warnings"])
    for person, stored in ((bob, answer), (ana, own)):
        person.request(daemon, "POST", f"/v1/jobs/{stored.json['id']}/cancel")


def test_checkpoints_are_the_submitters_alone_and_follow_a_retry(daemon, persons):
    ana, bob = persons
    job = ana.submit(daemon, "sh", "-c", "echo saved > $LEPTOND_CHECKPOINT_DIR/step1; exit 1")
    daemon.finished(job)
    directory = daemon.state_dir / "checkpoints" / str(job)
    assert (directory.stat().st_uid, stat.S_IMODE(directory.stat().st_mode)) == (ana.uid, 0o700)
    assert bob.run("ls", str(directory)).returncode != 0
    assert bob.run("ls", str(directory.parent)).returncode != 0
    assert ana.request(daemon, "POST", f"/v1/jobs/{job}/retry").status == 201


# -- argv, stops, limits, reports ---------------------------------------------------------------------------


def test_odd_words_arrive_byte_for_byte(daemon, persons):
    ana, _ = persons
    words = [
        "",
        " ",
        "$(id)",
        "`id`",
        "a\nb",
        "'",
        '"',
        "\\",
        "-x",
        "*",
        "~",
        "ü\u202e",
        "; id",
        "%s",
        "\x7f",
    ]
    job = ana.submit(daemon, PYTHON, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *words)
    assert daemon.finished(job)["state"] == "succeeded"
    assert json.loads(daemon.output(job)) == words


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    deep = "import os, time; print('deep', os.getpid(), flush=True); time.sleep(600)"
    os.execve(sys.executable, [sys.executable, "-c", deep], {})
print("up", flush=True)
time.sleep(600)
"""


def test_a_stop_reaches_everything_that_it_has_started(daemon, persons):
    ana, _ = persons
    job = ana.submit(daemon, PYTHON, "-c", STUBBORN, grace_s=0.3)
    deep = daemon.printed(job, "deep")
    pids = [daemon.pid(job), int(deep.partition("deep ")[2].split()[0])]
    assert ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel").status == 202
    assert daemon.finished(job)["state"] == "cancelled"
    assert all(map(gone, pids))


def test_a_graceful_stop_says_its_reason_to_the_job(daemon, persons):
    ana, _ = persons
    program = ana.write(
        "graceful.py",
        f"import sys, time; sys.path.insert(0, {str(TOP)!r})\n"
        "from leptond import job\n"
        "job.should_stop(); print('up', flush=True)\n"
        "while not job.should_stop(): time.sleep(.02)\n"
        "print(job.stop_reason(), flush=True); job.leave()\n",
    )
    job = ana.submit(daemon, PYTHON, str(program), grace_s=20)
    daemon.printed(job, "up")
    ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert daemon.finished(job)["state"] == "cancelled"
    assert daemon.output(job).splitlines()[-1] == "cancel"


def test_knobs_reach_the_job_and_its_word_reaches_the_daemon(daemon, persons):
    ana, _ = persons
    program = ana.write(
        "tuned.py",
        f"import sys, time; sys.path.insert(0, {str(TOP)!r})\n"
        "from leptond import job\n"
        "n = 0\n"
        "while job.knob('lr', 0.5, low=0, high=1) != 0.25:\n"
        "    n += 1; job.report(step=n, loss=1.0); time.sleep(.02)\n"
        "job.report(step=n + 1, loss=0.5)\n"
        "job.leave('diverged', 'to inf')\n",
    )
    job = ana.submit(daemon, PYTHON, str(program))
    until(lambda: daemon.job(job)["progress"], "a report")
    answer = ana.request(daemon, "POST", f"/v1/jobs/{job}/tune", {"values": {"lr": 0.25}})
    assert answer.status == 200, answer.data
    ended = daemon.finished(job)
    assert ended["class"] == "diverged", ended


CALL = """
import http.client, json, os, socket, sys
def call(method, path, body=None):
    connection = http.client.HTTPConnection("x")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.environ["LEPTOND_HOST"].removeprefix("unix://"))
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return [answer.status, json.loads(answer.read() or b"null")]
status, me = call("GET", "/v1/me")
made = call("POST", "/v1/jobs", {"argv": ["id", "-u"]})
other = call("POST", f"/v1/jobs/{sys.argv[1]}/cancel")[0]
drain = call("POST", "/v1/drain")[0]
print(json.dumps([me["user"], me["admin"], made[0], made[1]["id"], other, drain]))
"""


def test_a_job_speaks_to_the_queue_as_its_submitter(daemon, persons):
    ana, bob = persons
    theirs = bob.submit(daemon, "true", hold=True)
    job = ana.submit(daemon, PYTHON, "-c", CALL, str(theirs))
    assert daemon.finished(job)["state"] == "succeeded", daemon.output(job)
    user, admin, status, made, other, drain = json.loads(daemon.output(job))
    assert (user, admin, status) == (ana.name, False, 201)
    assert {other, drain} <= {403, 404}
    daemon.finished(made)
    assert daemon.output(made).strip() == str(ana.uid)
    assert daemon.job(made)["user"] == ana.name
    assert daemon.job(theirs)["state"] == "pending"
    bob.request(daemon, "POST", f"/v1/jobs/{theirs}/cancel")


SEND = """
import json, os, socket, sys, time
body = {"v": 1, "attempt": sys.argv[1], "at": time.time(), "step": int(sys.argv[3]), "metrics": {}}
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(json.dumps(body).encode(), sys.argv[2])
time.sleep(float(sys.argv[4]))
"""


def test_a_report_counts_only_from_the_attempt_itself(daemon, persons):
    ana, bob = persons
    with ana.acting():
        os.mkfifo(ana.home / "go")
    job = ana.submit(
        daemon,
        "sh",
        "-c",
        f"echo $LEPTOND_ATTEMPT_ID $LEPTOND_SOCKET; read x < {ana.home}/go;"
        f' {PYTHON} -c "$SEND" $LEPTOND_ATTEMPT_ID $LEPTOND_SOCKET 7 1; sleep 600',
        env={"SEND": SEND},
    )
    daemon.reached(job, "running")
    attempt, path = daemon.printed(job, "\n").split()
    # from a job of his, and from shells of both: from processes that stay, and from ones that have gone
    sent = bob.submit(
        daemon,
        "sh",
        "-c",
        f'echo $LEPTOND_SOCKET; exec {PYTHON} -c "$SEND" {attempt} $LEPTOND_SOCKET 901 0.5',
        env={"SEND": SEND},
    )
    assert daemon.finished(sent)["state"] == "succeeded", daemon.output(sent)
    of_bob = daemon.printed(sent, "\n").strip()
    strangers = [(bob, of_bob, "0"), (bob, of_bob, "0.2"), (ana, path, "1.2")]
    for step, (person, place, stays) in enumerate(strangers, 902):
        done = person.run(PYTHON, "-c", SEND, attempt, place, str(step), stays)
        assert done.returncode == 0, done.stderr
    for place in (path, path.removesuffix(f".{ana.uid}")):
        refused = bob.run(PYTHON, "-c", SEND, attempt, place, "909", "0")
        assert "PermissionError" in refused.stderr
    assert daemon.job(job)["progress"] is None
    with ana.acting():
        (ana.home / "go").write_text("\n")
    assert until(lambda: daemon.job(job)["progress"], "its own report")["step"] == 7
    ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel", {"grace_s": 0})
    daemon.finished(job)


FLOOD = """
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["LEPTOND_SOCKET"])
print("floods", flush=True)
while True:
    try:
        s.send(b'{"v": 1, "attempt": "%032d", "step": 1}' % 0)
    except OSError:
        pass
"""
STEADY = """
import json, os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["LEPTOND_SOCKET"])
s.setblocking(False)
lost = 0
for step in range(1, 41):
    try:
        s.send(json.dumps({"v": 1, "attempt": os.environ["LEPTOND_ATTEMPT_ID"], "step": step}).encode())
    except BlockingIOError:
        lost += 1
    time.sleep(0.05)
print("lost", lost)
"""


def test_reports_of_one_account_push_out_none_of_another(daemon, persons):
    ana, bob = persons
    flood = bob.submit(daemon, PYTHON, "-c", FLOOD)
    daemon.printed(flood, "floods\n")
    steady = ana.submit(daemon, PYTHON, "-c", STEADY)
    assert daemon.finished(steady)["state"] == "succeeded", daemon.output(steady)
    assert daemon.output(steady).endswith("lost 0\n")
    assert until(lambda: daemon.job(steady)["progress"], "its report")["step"] == 40
    bob.request(daemon, "POST", f"/v1/jobs/{flood}/cancel", {"grace_s": 0})
    daemon.finished(flood)


def test_the_last_report_of_a_job_that_ends_at_once_counts(daemon, persons):
    ana, _ = persons
    jobs = [
        ana.submit(
            daemon,
            "sh",
            "-c",
            f'exec {PYTHON} -c "$SEND" $LEPTOND_ATTEMPT_ID $LEPTOND_SOCKET {step} 0',
            env={"SEND": SEND},
        )
        for step in range(1, 9)
    ]
    marked = ana.submit(daemon, "echo", "::leptond step=5 loss=0.5")
    for job in (*jobs, marked):
        daemon.finished(job)
    for step, job in enumerate(jobs, 1):
        assert until(lambda job=job: daemon.job(job)["progress"], "its report")["step"] == step
    assert daemon.job(marked)["progress"]["step"] == 5


# -- the daemon comes and goes, and the modes change --------------------------------------------------------


def test_a_killed_daemon_finds_its_jobs_again_with_their_ends(persons):
    ana, bob = persons
    with multi_user_daemon() as one:
        ends = [
            person.submit(one, "sh", "-c", f"sleep 1; exit {code}") for person, code in ((ana, 7), (bob, 0))
        ]
        stays = ana.submit(one, "sh", "-c", "id -u; sleep 600")
        pids = [one.pid(one.reached(job, "running")["id"]) for job in (*ends, stays)]
        one.kill()
        assert all(map(gone, pids[:2]))
        one.start()
        assert [one.finished(job)["exit_code"] for job in ends] == [7, 0]
        assert one.job(stays)["state"] == "running"
        assert one.pid(stays) == pids[2]
        ana.request(one, "POST", f"/v1/jobs/{stays}/cancel", {"grace_s": 0})
        assert one.finished(stays)["state"] == "cancelled"
        assert gone(pids[2])


def test_what_a_killed_shim_leaves_is_ended_whoever_it_is(persons):
    _, bob = persons
    with multi_user_daemon(LEPTOND_ENGINE__LINGER_S="0.2") as one:
        job = bob.submit(one, PYTHON, "-c", STUBBORN, requeue=False)
        deep = one.printed(job, "deep")
        pids = [one.pid(job), int(deep.partition("deep ")[2].split()[0])]
        os.kill(shim_of(one, job), 9)
        assert all(map(gone, pids))
        assert one.finished(job)["state"] == "lost"


def test_jobs_of_the_time_before_do_not_run_as_somebody_that_a_row_names(persons):
    ana, _ = persons
    with multi_user_daemon(LEPTOND_ACCOUNTS__MODE="service-user") as one:
        job = one.submit("id", "-u", hold=True, cwd="/")
        assert not (one.state_dir / "multi-user").exists()
        assert one.terminate() == 0
        # as any job of the service user could have done
        with contextlib.closing(sqlite3.connect(one.state_dir / "leptond.db")) as db:
            db.execute("UPDATE jobs SET uid = ?, user = ?", (ana.uid, ana.name))
            db.commit()
        one.env["LEPTOND_ACCOUNTS__MODE"] = "multi-user"
        one.start()
        one.post(f"/v1/jobs/{job}/release")
        ended = one.finished(job)
        assert (ended["state"], ended["class"]) == ("failed", "config"), ended
        assert "submit it again" in ended["explanation"]
        again = ana.request(one, "POST", f"/v1/jobs/{job}/retry")  # she says that it is hers
        assert one.finished(again.json["id"])["state"] == "succeeded"
        assert one.output(again.json["id"]).strip() == str(ana.uid)
        one.restart()
        assert ana.request(one, "POST", "/v1/jobs", {"argv": ["true"]}).status == 201


# -- the start ----------------------------------------------------------------------------------------------


def refusal_of(top: Path, *prefix: str, **env: str) -> str:
    """What the daemon says that does not start."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "leptond", "run", "--state-dir", str(top / "state")],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(top),
            "PYTHONPATH": str(TOP),
            "LEPTOND_ACCOUNTS__MODE": "multi-user",
            **env,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78, (done.returncode, done.stderr)
    return done.stderr


def test_it_does_not_start_where_it_could_not_keep_its_word(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    assert "cannot get through" in refusal_of(closed)
    less = ("setpriv", "--bounding-set=-setuid,-chown")
    assert "lacks CAP_CHOWN, CAP_SETUID" in refusal_of(tmp_path, *less)


def test_it_does_not_start_below_a_directory_that_others_may_write_to():
    top = Path(tempfile.mkdtemp(prefix="lt-open-"))
    try:
        top.chmod(0o777)
        assert "others may write to" in refusal_of(top)
    finally:
        shutil.rmtree(top)


class Bounded(Daemon):
    """A daemon with the capabilities of its unit alone."""

    def _launch(self, log):
        text = (TOP / "systemd" / "leptond-multi-user.service").read_text()
        kept = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)[1].lower().split()
        bounds = ",".join(["-all", *("+" + name.removeprefix("cap_") for name in kept)])
        return subprocess.Popen(
            [
                *("setpriv", f"--bounding-set={bounds}", "--no-new-privs", sys.executable, "-m", "leptond"),
                *("run", "--state-dir", str(self.state_dir), *self.options),
            ],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )


def test_the_capabilities_of_its_unit_are_enough(persons):
    ana, _ = persons
    with multi_user_daemon(kind=Bounded) as one:
        output = ana.home / "bounded.txt"
        job = ana.submit(one, PYTHON, "-c", STUBBORN, grace_s=0.2, output=str(output))
        deep = one.printed(job, "deep")
        pids = [one.pid(job), int(deep.partition("deep ")[2].split()[0])]
        assert ana.request(one, "POST", f"/v1/jobs/{job}/cancel").status == 202
        assert one.finished(job)["state"] == "cancelled"
        assert all(map(gone, pids))
        until(lambda: output.is_file() and not output.is_symlink(), "the copy of the output")
        kept = ana.submit(one, "sh", "-c", "echo saved > $LEPTOND_CHECKPOINT_DIR/x; exit 3")
        assert one.finished(kept)["exit_code"] == 3
        until(
            lambda: (attempt_dir(one, kept) / "exit.json").exists(), "its record, after which nothing comes"
        )
        assert ana.request(one, "DELETE", f"/v1/jobs/{kept}").status == 204
        assert not (one.state_dir / "jobs" / str(kept)).exists()


# -- one job does not starve another -------------------------------------------------------------------------


def test_processes_of_one_account_are_bounded(persons):
    ana, bob = persons
    text = """
import os, time
n = 0
try:
    while n < 400:
        if os.fork() == 0: time.sleep(60)
        n += 1
except OSError: pass
print(n, flush=True)
"""
    with multi_user_daemon(LEPTOND_ACCOUNTS__MAX_PROCESSES="60", LEPTOND_ENGINE__LINGER_S="0.1") as one:
        job = ana.submit(one, PYTHON, "-c", text)
        one.finished(job)
        assert 10 < int(one.output(job).split()[0]) < 60
        assert one.finished(bob.submit(one, "true"))["state"] == "succeeded"


SWAP = """
import os, sys, time
place, victims = sys.argv[1], sys.argv[2:]
aside = place + ".aside"
until = time.monotonic() + float(os.environ["SECONDS"])
n = 0
while time.monotonic() < until:
    for kind in ("file", "fifo", "none", *victims):
        try:
            if kind == "file": open(aside, "w").close()
            elif kind == "fifo": os.mkfifo(aside)
            elif kind != "none": os.symlink(kind, aside)
            if kind == "none": os.unlink(place)
            else: os.rename(aside, place)
        except OSError: pass
        n += 1
print(n, flush=True)
"""


def swaps(daemon, persons, *, seconds: float, jobs: int) -> None:
    """Outputs that a process of their owner exchanges all the time for links to what is not its own."""
    ana, bob = persons
    hers = ana.write("public.txt", "hers", 0o666)
    ana.home.chmod(0o755)
    roots = daemon.state_dir.parent / "roots.txt"
    roots.write_text("roots")
    roots.chmod(0o600)
    place = bob.home / f"swap-{seconds}"
    try:
        swapper = bob.submit(
            daemon,
            PYTHON,
            "-c",
            SWAP,
            str(place),
            str(roots),
            str(hers),
            str(daemon.state_dir / "leptond.db"),
            env={"SECONDS": str(seconds)},
        )
        daemon.reached(swapper, "running")
        stored = []
        for n in range(jobs):
            body = {
                "argv": ["echo", "OVERWRITTEN"],
                "output": str(place),
                "open_mode": ("append", "truncate")[n % 2],
            }
            answer = bob.request(daemon, "POST", "/v1/jobs", body)
            assert answer.status in (201, 422), answer.data
            if answer.status == 201:
                stored.append(answer.json["id"])
        for job in stored:
            assert daemon.finished(job)["state"] == "succeeded"
        assert daemon.finished(swapper)["state"] == "succeeded", daemon.output(swapper)
        assert int(daemon.output(swapper)) > 100
        last = bob.submit(daemon, "true", output=str(bob.home / "last"))
        daemon.finished(last)
        until(lambda: (bob.home / "last").is_file(), "the copies before are done")
    finally:
        ana.home.chmod(0o700)
    assert (roots.read_text(), hers.read_text()) == ("roots", "hers")


def test_an_output_that_is_exchanged_all_the_time_leads_nowhere(daemon, persons):
    swaps(daemon, persons, seconds=1.0, jobs=25)


@pytest.mark.slow
def test_an_output_that_is_exchanged_for_a_long_time_leads_nowhere(daemon, persons):
    swaps(daemon, persons, seconds=60.0, jobs=2000)


def words_arrive(daemon, person, rounds: int) -> None:
    """Words of all bytes that an argument or a value may have arrive as they were sent."""
    draw = random.Random(5)
    odd = "".join(map(chr, range(1, 127))) + "\x85\u2028\u202e\U0001f600é"
    for _ in range(rounds):
        words = ["".join(draw.choices(odd, k=draw.randrange(24))) for _ in range(500)]
        values = {f"V{n}": word for n, word in enumerate(words[:100])}
        values_of = "[os.environ[f'V{n}'] for n in range(100)]"
        text = f"import sys, os, json; print(json.dumps([sys.argv[1:], {values_of}]))"
        job = person.submit(daemon, PYTHON, "-c", text, *words, env={**values, "PYTHONUTF8": "1"})
        assert daemon.finished(job)["state"] == "succeeded", daemon.output(job)
        assert json.loads(daemon.output(job)) == [words, words[:100]]


def test_hundreds_of_odd_words_arrive(daemon, persons):
    words_arrive(daemon, persons[0], 1)


@pytest.mark.slow
def test_ten_thousand_odd_words_arrive(daemon, persons):
    words_arrive(daemon, persons[0], 20)
