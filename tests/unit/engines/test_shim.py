"""The shim alone, spoken to as the daemon speaks to it."""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.attempt_files.output_log import JobLog
from leptond.base.clock import kernel_boot_id
from leptond.engines.procs import tag_of
from leptond.engines.shim.output import Log

TOP = Path(__file__).parents[3]
SHIM = TOP / "leptond" / "engines" / "shim" / "__main__.py"


class Forked:
    """A shim that a zygote has forked, with the face of a Popen."""

    def __init__(self, pid: int, pidfd: int, shim: "Shim") -> None:
        self.pid, self.pidfd, self.shim = pid, pidfd, shim

    def wait(self, timeout: float) -> int:
        """0 when it has left its record: its status is the zygote's to see."""
        assert select.select([self.pidfd], [], [], timeout)[0]
        return 0 if (self.shim.directory / "exit.json").exists() else 1

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def __del__(self) -> None:
        os.close(self.pidfd)


class Zygote:
    """A zygote, spoken to as the daemon speaks to it."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(30)
        command = [sys.executable, "-I", "-S", "-X", "utf8", str(SHIM.parents[1] / "zygote.py")]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], env={"PATH": "/usr/bin:/bin"}
            )
        assert json.loads(self.channel.recv(4096)) == {"ready": True}

    def ask(self, gate: int, launch: int, errors: int, name: str = "a1") -> None:
        body = {"id": 1, "env": {"LEPTOND_SHIM": name, "PATH": "/usr/bin:/bin"}}
        socket.send_fds(self.channel, [json.dumps(body).encode()], [gate, launch, errors])

    def fork(self, gate: int, launch: int, shim: "Shim") -> Forked:
        errors = os.open(os.devnull, os.O_WRONLY)
        self.ask(gate, launch, errors)
        os.close(errors)
        data, fds, _, _ = socket.recv_fds(self.channel, 4096, 1)
        return Forked(json.loads(data)["pid"], fds[0], shim)

    def close(self) -> None:
        self.channel.close()
        assert self.process.wait(30) == 0


@pytest.fixture(params=["cold", "forked"])
def born(request, monkeypatch):
    """Shims that start an interpreter, and shims from a zygote."""
    if request.param == "cold":
        yield
        return
    zygote = Zygote()
    monkeypatch.setattr(Shim, "zygote", zygote)
    yield
    zygote.close()


class Shim:
    """A started shim and our end of its gate. Below `home` are its standby directory and its place."""

    zygote: Zygote | None = None

    def __init__(
        self, home: Path, argv: list[str], *, program=(str(SHIM),), cpus: list[int] | None = None, **more
    ) -> None:
        self.standby, self.place = home / "standby", home / "1" / "1"
        self.standby.mkdir(exist_ok=True)
        self.cpus = cpus or []
        launch = {
            "claim": {"job_id": 1},
            "attempt_id": "a1",
            "boot_id": kernel_boot_id(),
            "standby": str(self.standby),
            "directory": str(self.place),
            "argv": argv,
            "env": {"PATH": os.environ["PATH"]},
            "cwd": "/",
            "umask": 0o22,
            "cgroup": "",
            "tag": tag_of("a1" * 16),
            "time_limit_s": None,
            "grace_s": 1.0,
            "warn_signal": None,
            "warn_before_s": None,
            "linger_s": 0.2,
            "kill_timeout_s": 5.0,
            "log_max_bytes": 1 << 20,
            **more,
        }
        self.gate, theirs = socket.socketpair()
        self.gate.settimeout(30)
        memory = os.memfd_create("launch")
        os.write(memory, json.dumps(launch).encode())
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs.fileno(), memory)]
        command = [sys.executable, "-c", MOVE.format(*high), sys.executable, "-I", "-S", *program]
        if self.zygote is not None and program == (str(SHIM),):
            self.process = self.zygote.fork(*high, self)
        else:
            self.process = subprocess.Popen(command, pass_fds=high, start_new_session=True)
        for fd in (*high, memory):
            os.close(fd)
        theirs.close()

    @property
    def directory(self) -> Path:
        return self.place if self.place.exists() else self.standby

    def go(self, env: dict[str, str] | None = None) -> None:
        told = {"env": env or {}, "cpus": self.cpus, "claim": {"gpus": []}}
        self.gate.sendall(b"GO " + json.dumps(told).encode() + b"\n")

    def line(self) -> str:
        data = b""
        while not data.endswith(b"\n"):
            part = self.gate.recv(1)
            if not part:
                return ""
            data += part
        return data.decode().strip()

    def end(self) -> dict:
        assert self.process.wait(60) == 0
        self.gate.close()
        return json.loads((self.directory / "exit.json").read_text())


# the shim expects its two descriptors at 3 and 4
MOVE = "import os, sys; os.dup2({}, 3); os.dup2({}, 4); os.execv(sys.argv[1], sys.argv[1:])"


def test_without_go_nothing_runs(tmp_path, born):
    marker = tmp_path / "ran"
    attempt = tmp_path / "a"
    attempt.mkdir()
    shim = Shim(attempt, ["touch", str(marker)])
    ready = shim.line().split()
    assert ready[0] == "READY"
    identity = json.loads((shim.standby / "identity.json").read_text())
    assert identity == {
        "boot_id": kernel_boot_id(),
        "pid": shim.process.pid,
        "start_ticks": int(ready[1]),
        "attempt_id": "a1",
    }, "without a claim"
    shim.gate.close()
    assert shim.end()["never_started"] is True
    assert not marker.exists()
    assert not shim.place.exists()


def test_with_go_it_has_its_claim_and_its_place(tmp_path, born):
    shim = Shim(tmp_path, ["sh", "-c", "echo $GPUS; exit 3"])
    shim.line()
    pid = shim.process.pid
    shim.go({"GPUS": "one,two"})
    assert shim.line().startswith("STARTED ")
    assert not shim.standby.exists()
    identity = json.loads((shim.place / "identity.json").read_text())
    assert (identity["pid"], identity["claim"]) == (pid, {"job_id": 1, "gpus": []})
    word, _, record = shim.line().partition(" ")
    assert (word, json.loads(record)["exit_code"]) == ("ENDED", 3)
    assert not (shim.place / "exit.json").exists(), "it gives the daemon the disk first"
    shim.gate.sendall(b"BOOKED\n")
    assert shim.end() == json.loads(record)
    assert (shim.place / "output.log").read_text() == "one,two\n"


def test_an_end_that_nobody_books_is_recorded_all_the_same(tmp_path, born):
    shim = Shim(tmp_path, ["true"])
    shim.line()
    shim.go()
    assert shim.process.wait(60) == 0, "the gate is open, and nobody answers"
    assert shim.end()["exit_code"] == 0


@pytest.mark.parametrize("word", [b"GO {}", b"NO\n", b"GO\n", b"GOGO {}\n"])
def test_only_the_whole_word_opens_the_gate(tmp_path, word, born):
    marker = tmp_path / "ran"
    attempt = tmp_path / "a"
    attempt.mkdir()
    shim = Shim(attempt, ["touch", str(marker)])
    shim.line()
    shim.gate.sendall(word)
    shim.gate.shutdown(socket.SHUT_WR)
    assert shim.end()["never_started"] is True
    assert not marker.exists()


def test_it_records_what_the_command_did(tmp_path, born):
    shim = Shim(tmp_path, ["sh", "-c", "echo out; echo err >&2; exit 41"])
    shim.line()
    shim.go()
    started = shim.line().split()
    record = shim.end()
    assert (record["exit_code"], record["main_pid"]) == (41, int(started[1]))
    assert (record["log_bytes"], record["log_dropped_bytes"], record["leftovers"]) == (8, 0, 0)
    assert (shim.directory / "output.log").read_text() == "out\nerr\n"
    assert (shim.directory / "output.log").stat().st_mode & 0o777 == 0o640
    assert not list(shim.directory.glob("*.tmp"))


def test_a_second_shim_for_the_same_attempt_gives_up(tmp_path, born):
    first = Shim(tmp_path, ["sleep", "600"])
    first.line()
    second = Shim(tmp_path, ["sleep", "600"])
    assert second.line().startswith("CANNOT 11 "), "the lock is taken"
    assert second.process.wait(60) != 0
    second.gate.close()
    first.gate.close()
    assert first.end()["never_started"] is True


def test_it_ignores_signals_that_are_not_for_it(tmp_path, born):
    shim = Shim(tmp_path, ["sh", "-c", "read x < fifo; exit 5"], cwd=str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    shim.line()
    shim.go()
    shim.line()
    for number in (1, 2, 3, 15, 10, 12):
        shim.process.send_signal(number)
    (tmp_path / "fifo").write_text("go\n")
    assert shim.end()["exit_code"] == 5


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.integers(1, 3000), max_size=40),
    budget=st.integers(64, 4096),
)
def test_the_log_keeps_head_and_tail_within_its_budget(tmp_path_factory, parts, budget):
    directory = tmp_path_factory.mktemp("log")
    log = Log(str(directory), budget)
    whole = bytearray()
    for number, size in enumerate(parts):
        data = bytes((number + i) % 251 for i in range(size))
        whole += data
        log.write(data)
    os.close(log.fd)
    stored = sum(file.stat().st_size for file in directory.glob("output*.log"))
    assert stored <= budget
    assert log.total == len(whole)
    assert stored + log.dropped == len(whole)
    reader, offset, seen = JobLog(directory), 0, bytearray()
    gaps = 0
    assert reader.size() == len(whole)
    while True:
        data, after, skipped = reader.read(offset, 1000)
        if not data:
            break
        gaps += skipped
        assert data == whole[after - len(data) : after], "every byte stands at its own offset"
        seen += data
        offset = after
    assert offset == len(whole) or not whole
    assert gaps == log.dropped
    assert whole.startswith(bytes(seen[: budget // 2]))


def test_a_full_disk_drops_output_and_goes_on(tmp_path):
    log = Log(str(tmp_path), 1 << 20)
    log.write(b"before ")
    good, log.fd = log.fd, os.open("/dev/full", os.O_WRONLY)
    os.close(good)
    log.write(b"lost")
    log.write(b"after")
    os.close(log.fd)
    assert (log.total, log.dropped) == (16, 4)
    reader = JobLog(tmp_path)
    assert reader.read(0, 100) == (b"before ", 7, 0)
    assert reader.read(7, 100) == (b"after", 16, 4)


def test_the_reader_follows_no_link_and_opens_no_fifo(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    attempt = tmp_path / "a"
    attempt.mkdir()
    (attempt / "output.log").symlink_to(secret)
    os.mkfifo(attempt / "output.0000000000000009.log")
    assert JobLog(attempt).read(0, 100) == (b"", 0, 0)
    (attempt / "output.log").unlink()
    os.link(secret, attempt / "output.log")
    assert JobLog(attempt).read(0, 100)[0] == b""


@given(
    lines=st.lists(st.text(alphabet="ab\r ", max_size=5), max_size=30),
    wanted=st.integers(0, 35),
    end=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_the_tail_is_the_last_lines(tmp_path_factory, lines, wanted, end):
    directory = tmp_path_factory.mktemp("tail")
    text = "\n".join(lines) + ("\n" if end and lines else "")
    (directory / "output.log").write_bytes(text.encode())
    reader = JobLog(directory)
    data, _, _ = reader.read(reader.tail(wanted), 10_000)
    pieces = text.split("\n")
    if pieces and pieces[-1] == "":
        pieces.pop()
    kept = pieces[-wanted:] if wanted else []
    expected = "\n".join(kept) + ("\n" if text.endswith("\n") and kept else "")
    assert data.decode() == expected


@pytest.mark.parametrize("away", [False, True])
def test_the_command_stays_on_the_cpus_near_its_gpus_where_it_may(tmp_path, away, born):
    mine = sorted(os.sched_getaffinity(0))
    near = [4095] if away else [mine[-1], 4095]
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    shim = Shim(tmp_path, [sys.executable, "-c", show], cpus=near)
    assert shim.line().startswith("READY")
    shim.go()
    assert shim.line().startswith("STARTED")
    assert shim.end()["exit_code"] == 0
    assert (shim.directory / "output.log").read_text() == f"{mine if away else mine[-1:]}\n"


POWERLESS = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import kill, program, supervise
kill.send = supervise.send = lambda pid, number: None
os.killpg = lambda group, number: None
program.main()
os._exit(0)
"""
"""The shim, on a machine where no signal does anything."""


def test_what_cannot_be_killed_is_given_up_and_counted(tmp_path):
    shim = Shim(
        tmp_path,
        ["sh", "-c", "echo before; exec cat fifo"],
        cwd=str(tmp_path),
        program=("-c", POWERLESS, str(TOP)),
        time_limit_s=0.2,
        grace_s=0.1,
        kill_timeout_s=0.3,
    )
    os.mkfifo(tmp_path / "fifo")
    shim.line()
    shim.go()
    pid = int(shim.line().split()[1])
    record = shim.end()
    assert (record["unkillable"], record["stop_reason"], record["killed"]) == (1, "timeout", True)
    assert "exit_code" not in record
    assert "signal" not in record
    assert (shim.directory / "output.log").read_text() == "before\n"
    os.kill(pid, 9)


def test_a_job_that_removes_its_directory_still_leaves_a_record(tmp_path, born):
    attempt = tmp_path / "a"
    attempt.mkdir()
    shim = Shim(attempt, ["sh", "-c", f"rm -rf {attempt}/1/1; exit 3"])
    shim.line()
    shim.go()
    assert shim.end()["exit_code"] == 3


def test_what_a_job_writes_into_stop_json_does_not_end_its_shim(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    shim = Shim(tmp_path, ["sh", "-c", "read x < fifo; exit 5"], cwd=str(tmp_path))
    shim.line()
    shim.go()
    shim.line()
    mine = {"attempt_id": "a1", "reason": "cancel"}
    for text in ("[]", "7", "{}", json.dumps(mine), json.dumps({**mine, "grace_s": [1]}), '{"grace_s": NaN}'):
        (shim.directory / "stop.json").write_text(text)
        shim.process.send_signal(10)
    (tmp_path / "fifo").write_text("go\n")
    record = shim.end()
    assert record["exit_code"] == 5
    assert "stop_reason" not in record


FORKING = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import command, program
command.Command.forks = True
program.main()
os._exit(0)
"""
"""The shim, as where a command has to enter a cgroup."""


def test_a_command_that_was_forked_in_advance_starts_with_go_and_not_without(tmp_path):
    for name, go in (("a", True), ("b", False)):
        (tmp_path / name).mkdir()
        shim = Shim(tmp_path / name, ["sh", "-c", "echo $X; exit 4"], program=("-c", FORKING, str(TOP)))
        assert shim.line().startswith("READY")
        if go:
            shim.go({"X": "here"})
            assert shim.line().startswith("STARTED")
            assert shim.end()["exit_code"] == 4
            assert (shim.directory / "output.log").read_text() == "here\n"
        else:
            shim.gate.close()
            assert shim.end()["never_started"] is True


@pytest.mark.parametrize("place", ["shim_before_fork", "shim_after_fork", "shim_before_start"])
def test_what_was_forked_in_advance_ends_with_its_shim(tmp_path, place):
    shim = Shim(
        tmp_path,
        ["touch", str(tmp_path / "ran")],
        program=("-c", FORKING, str(TOP)),
        failpoints=f"{place}=kill",
    )
    if shim.line():
        shim.go()
    assert shim.process.wait(60) == -signal.SIGKILL
    assert shim.line() == "", "nobody holds the other end any more"
    shim.gate.close()
    assert not (tmp_path / "ran").exists()
