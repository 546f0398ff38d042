"""Warm starts of jobs that run as their submitters: from processes of the submitters' own accounts."""

import contextlib
import json
import os
import re
import secrets
import time
from pathlib import Path

import pytest

from tests.daemon.test_multi_user import HOSTILE, PYTHON, SEND
from tests.support.accounts import NEEDS_ROOT, multi_user_daemon, people
from tests.support.daemon import gone, parent_of, until

CGROUPS = Path("/sys/fs/cgroup/unified")
if not CGROUPS.is_dir():
    CGROUPS = CGROUPS.parent


def _usable() -> bool:
    """Whether cgroups of version 2 can be made here, and killed."""
    place = CGROUPS / f"lt-{secrets.token_hex(4)}"
    try:
        place.mkdir()
    except OSError:
        return False
    try:
        return (place / "cgroup.kill").exists()
    finally:
        place.rmdir()


pytestmark = [
    NEEDS_ROOT,
    pytest.mark.skipif(not _usable(), reason="no cgroup v2 can be made and killed here"),
]


@pytest.fixture(scope="module")
def persons():
    with people("ltw", "ltx") as found:
        yield found


@contextlib.contextmanager
def warm_daemon(**env):
    """A daemon whose warm processes import little, with cgroups."""
    root = CGROUPS / f"lt-{secrets.token_hex(4)}"
    root.mkdir()
    settings = {
        "LEPTOND_ENGINE__WARM": "true",
        "LEPTOND_ENGINE__WARM_IMPORTS": '["decimal"]',
        "LEPTOND_ENGINE__CGROUP_ROOT": str(root),
        "LEPTOND_ENGINE__STANDBY": "0",
        **env,
    }
    try:
        with multi_user_daemon(**settings) as one:
            yield one
    finally:
        for path, _, _ in os.walk(root, topdown=False):
            until(lambda path=path: _removed(path), f"{path} is empty")


def _removed(path) -> bool:
    try:
        Path(path).rmdir()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def daemon(persons):
    with warm_daemon() as one:
        yield one


def warmed(daemon, person) -> None:
    """The person has a warm process that stands ready."""

    def is_warm() -> bool:
        job = person.submit(daemon, PYTHON, "-c", "pass")
        return daemon.finished(job)["attempts"][-1]["start"] == "warm"

    until(is_warm, "a warm start")


def ran(daemon, person, code, *words, **spec):
    """A job of Python code, when it has ended, and its output."""
    job = person.submit(daemon, PYTHON, "-c", code, *words, **spec)
    ended = daemon.finished(job)
    return ended, daemon.output(job)


def test_a_warm_start_is_the_submitter_in_every_respect(daemon, persons):
    code = (
        "import json, os, sys; status = open('/proc/self/status').read();"
        "open('/dev/stdout', 'a').write(json.dumps([os.getresuid(), os.getresgid(), sorted(os.getgroups()),"
        " [line.split()[1] for line in status.splitlines()"
        " if line.startswith(('CapInh', 'CapPrm', 'CapEff', 'CapAmb', 'NoNewPrivs'))],"
        " 'decimal' in sys.modules, os.getcwd(), os.environ['HOME'], oct(os.umask(0))]))"
    )
    none = "0" * 16
    for person in persons:
        warmed(daemon, person)
        ended, output = ran(daemon, person, code)
        assert ended["attempts"][-1]["start"] == "warm"
        uid, gid, home = person.uid, person.gid, str(person.home)
        assert json.loads(output) == [
            [uid] * 3,
            [gid] * 3,
            [gid],
            [none] * 4 + ["1"],
            True,
            home,
            home,
            "0o77",
        ]


def test_no_process_with_imports_of_a_user_is_roots(daemon, persons):
    for person in persons:
        warmed(daemon, person)
    job = persons[0].submit(daemon, PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)")
    daemon.printed(job, "up")
    found = {}
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            text = Path(f"/proc/{int(entry.name)}/maps").read_text()
            if "_decimal" in text and str(daemon.state_dir) not in text:
                uids = re.search(
                    r"^Uid:\s+(.*)$", Path(f"/proc/{entry.name}/status").read_text(), re.MULTILINE
                )
                found[entry.name] = set(map(int, uids[1].split()))
    ours = [uids for uids in found.values() if uids & {person.uid for person in persons}]
    assert ours
    assert all(len(uids) == 1 for uids in ours)
    shim = shim_of_warm(daemon, job)
    assert "_decimal" not in Path(f"/proc/{shim}/maps").read_text()
    assert re.search(r"^Uid:\s+0\s+0\s+0\s+0$", Path(f"/proc/{shim}/status").read_text(), re.MULTILINE)
    daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
    daemon.finished(job)


def shim_of_warm(daemon, job: int) -> int:
    """The shim of a job whose command is no child of it."""
    directory = daemon.state_dir / "jobs" / str(job) / "1"
    return int(json.loads((directory / "identity.json").read_text())["pid"])


def test_ends_are_as_those_of_any_job(daemon, persons):
    ana, _ = persons
    warmed(daemon, ana)
    for code, exit_code, signal in (
        ("import sys; sys.exit(3)", 3, None),
        ("import os; os.kill(os.getpid(), 11)", None, "SIGSEGV"),
        ("raise ValueError('x')", 1, None),
    ):
        ended, output = ran(daemon, ana, code)
        last = ended["attempts"][-1]
        assert (last["start"], last["exit_code"], last["signal"]) == ("warm", exit_code, signal)
        assert ("ValueError: x" in output) == ("raise" in code)
    ended, _ = ran(daemon, ana, "x = bytearray(60_000_000); sum(range(10**6))")
    assert ended["attempts"][-1]["start"] == "warm"
    ended, _ = ran(daemon, ana, "pass", cwd=str(persons[1].home))
    assert (ended["class"], "cannot enter the directory" in ended["explanation"]) == ("config", True)


def test_a_stop_a_limit_and_leftovers_reach_everything(daemon, persons):
    ana, _ = persons
    warmed(daemon, ana)
    stubborn = (
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\nif os.fork() == 0: os.setsid()\n"
        "print('pid', os.getpid(), flush=True)\ntime.sleep(600)"
    )
    for how in ("cancel", "limit"):
        more = {"time_limit_s": 1.0} if how == "limit" else {}
        job = ana.submit(daemon, PYTHON, "-c", stubborn, grace_s=0.3, **more)
        until(lambda job=job: daemon.output(job).count("pid ") == 2, "both are up")
        pids = [int(line.split()[1]) for line in daemon.output(job).splitlines()]
        if how == "cancel":
            assert ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel").status == 202
        ended = daemon.finished(job)
        assert ended["state"] == {"cancel": "cancelled", "limit": "timed_out"}[how]
        assert (ended["attempts"][-1]["start"], ended["attempts"][-1]["signal"]) == ("warm", "SIGKILL")
        assert all(map(gone, pids))
    ended, output = ran(
        daemon,
        ana,
        "import os, time\nif os.fork() == 0: print(os.getpid(), flush=True); time.sleep(600)\ntime.sleep(.3)",
    )
    assert (ended["state"], ended["attempts"][-1]["notes"][0]["kind"]) == ("succeeded", "left-behind")
    assert gone(int(output))


def test_a_graceful_program_has_its_grace(daemon, persons):
    ana, _ = persons
    warmed(daemon, ana)
    code = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: (print('saved', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    job = ana.submit(daemon, PYTHON, "-c", code, grace_s=30)
    daemon.printed(job, "up")
    ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel")
    ended = daemon.finished(job)
    assert (ended["state"], ended["attempts"][-1]["exit_code"]) == ("cancelled", 0)
    assert "saved" in daemon.output(job)


@pytest.mark.parametrize("number", [9, 19])
def test_a_job_that_ends_or_stops_its_relay_is_ended_whole(daemon, persons, number):
    ana, _ = persons
    warmed(daemon, ana)
    code = (
        "import os, time\nready, up = os.pipe()\nchild = os.fork() == 0\n"
        "if child: os.setsid()\nelse: os.read(ready, 1)\nprint('pid', os.getpid(), flush=True)\n"
        f"if child: os.write(up, b'.')\nelse: os.kill(os.getppid(), {number})\ntime.sleep(600)"
    )
    job = ana.submit(daemon, PYTHON, "-c", code, grace_s=0.2, requeue=False)
    until(lambda: daemon.output(job).count("pid ") == 2, "both are up")
    pids = [int(line.split()[1]) for line in daemon.output(job).splitlines()]
    if number == 19:
        ana.request(daemon, "POST", f"/v1/jobs/{job}/cancel")
    ended = daemon.finished(job)
    assert ended["state"] == {9: "lost", 19: "cancelled"}[number]
    assert ended["exit_code"] is None
    assert all(map(gone, pids))


def test_a_relay_that_has_gone_before_the_start_is_done_without(persons):
    ana, _ = persons
    with warm_daemon(LEPTOND_QUEUE__CPU_SLOTS="1", LEPTOND_ENGINE__STANDBY="2") as one:
        warmed(one, ana)
        first = ana.submit(one, PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)")
        one.printed(first, "up")
        waits = ana.submit(one, PYTHON, "-c", "print('ran')")
        zygotes = until(lambda: relays(one, ana) - {parent_of(one.pid(first))}, "it is prepared")
        for pid in zygotes:
            os.kill(pid, 9)
        assert all(map(gone, zygotes))
        ana.request(one, "POST", f"/v1/jobs/{first}/cancel", {"grace_s": 0})
        ended = one.finished(waits)
        assert (ended["state"], one.output(waits)) == ("succeeded", "ran\n"), ended


def relays(daemon, person) -> set[int]:
    """The processes forked from the person's warm process, which is a child of the daemon."""
    found = set()
    for child in children(daemon.process.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{child}").stat().st_uid == person.uid:
                found.update(children(child))
    return found


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_nothing_of_a_warm_start_lets_others_in(daemon, persons):
    ana, bob = persons
    for person in persons:
        warmed(daemon, person)
    theirs = ana.submit(daemon, PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)")
    daemon.printed(theirs, "up")
    pid = daemon.pid(theirs)
    relay = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    zygote = int(Path(f"/proc/{relay}/stat").read_text().rpartition(")")[2].split()[1])
    for victim in (relay, zygote, shim_of_warm(daemon, theirs)):
        words = [str(victim), str(pid), str(daemon.process.pid), str(daemon.state_dir)]
        ended, output = ran(daemon, bob, HOSTILE, *words)
        assert (ended["state"], ended["attempts"][-1]["start"]) == ("succeeded", "warm"), output
        assert len(output.splitlines()) > 50
        assert " DONE" not in output
    # its own relay and warm process are the user's; its shim is not
    own = HOSTILE.replace('("daemon", daemon)', "").replace('("other", other), ', "")
    ended, output = ran(daemon, bob, own, str(shim_of_warm(daemon, theirs)), "0", "0", "/nowhere")
    assert " DONE" not in output
    assert daemon.job(theirs)["state"] == "running"
    ana.request(daemon, "POST", f"/v1/jobs/{theirs}/cancel", {"grace_s": 0})
    daemon.finished(theirs)


def test_reports_count_for_the_attempt_whose_cgroup_the_sender_is_in(daemon, persons):
    ana, _ = persons
    warmed(daemon, ana)
    code = (
        "import os, sys\n"
        "sys.argv = ['', os.environ['LEPTOND_ATTEMPT_ID'], os.environ['LEPTOND_SOCKET'], '4', '1']\n"
    )
    ended, _ = ran(daemon, ana, code + SEND)
    assert ended["attempts"][-1]["start"] == "warm"
    assert until(lambda: daemon.job(ended["id"])["progress"], "its report")["step"] == 4


def test_a_restarted_daemon_finds_warm_jobs_again(persons):
    ana, _ = persons
    with warm_daemon() as one:
        warmed(one, ana)
        job = ana.submit(
            one, PYTHON, "-c", "import sys, time; print('up', flush=True); time.sleep(2); sys.exit(5)"
        )
        one.printed(job, "up")
        # the job prints as soon as it runs, and the daemon hears of its start a moment later
        assert until(lambda: one.job(job)["attempts"][-1]["start"], "its start is known") == "warm"
        one.kill()
        time.sleep(0.2)  # its warm processes end meanwhile
        one.start()
        assert one.finished(job)["exit_code"] == 5


def test_a_relay_that_a_user_has_exchanged_for_a_process_of_root_is_not_taken(tmp_path):
    from leptond.engines.shim import relayed

    with pytest.raises(PermissionError):
        relayed._check_account(os.getpid(), 4242)
    relayed._check_account(os.getpid(), os.getuid())


def test_processes_of_all_accounts_count_together(persons):
    with warm_daemon(LEPTOND_ENGINE__WARM_MAX="1") as one:
        for person in (*persons, persons[0]):
            warmed(one, person)
        found = children(one.process.pid)
        uids = [uid for child in found if (uid := Path(f"/proc/{child}").stat().st_uid) != 0]
        assert uids == [persons[0].uid]


def test_without_cgroups_it_starts_cold_and_says_why(persons):
    ana, _ = persons
    with multi_user_daemon(LEPTOND_ENGINE__WARM="true", LEPTOND_ENGINE__WARM_IMPORTS='["decimal"]') as one:
        ended, _ = ran(one, ana, "pass")
        assert "only where cgroups keep them together" in ended["attempts"][-1]["start"]
