"""The process that becomes the command."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.unit.engines.shim.harness import TOP, Shim

FORKING = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import command, program
command.Command.forks = True
program.main()
os._exit(0)
"""
"""The shim, as where a command has to enter a cgroup."""


OLD_LIBRARY = """
import os, sys
sys.path.append(sys.argv[1])
spawn = os.posix_spawn
def without(*args, **options):
    if "setsid" in options:
        raise NotImplementedError("setsid parameter is not supported on this platform")
    return spawn(*args, **options)
os.posix_spawn = without
from leptond.engines.shim import program
program.main()
os._exit(0)
"""
"""The shim in a Python that was built for a C library whose posix_spawn knows no sessions."""

WAYS = {"spawned": None, "forked": FORKING, "old-library": OLD_LIBRARY}


def _shim(place, argv, way, **more):
    program = WAYS[way]
    shim = Shim(place, argv, **({"program": ("-c", program, str(TOP))} if program else {}), **more)
    assert shim.line().startswith("READY")
    shim.go()
    return shim


@pytest.mark.parametrize("way", WAYS)
def test_the_command_finds_itself_as_it_was_launched(tmp_path, way):
    here = tmp_path / "here"
    here.mkdir()
    show = (
        "import os, sys\n"
        "print(os.getsid(0) == os.getpid(), os.getcwd(), os.environ['PWD'], oct(os.umask(0)))\n"
        "found = sorted(int(name) for name in os.listdir('/proc/self/fd'))\n"
        "print(os.read(0, 1), [fd for fd in found if fd < 20], flush=True)\n"
        "print('err', file=sys.stderr)\n"
    )
    (tmp_path / "show.py").write_text(show)
    argv = [sys.executable, "-S", str(tmp_path / "show.py")]
    shim = _shim(tmp_path, argv, way, cwd=str(here), umask=0o027)
    assert shim.line().startswith("STARTED")
    assert shim.end()["exit_code"] == 0
    lines = (shim.directory / "output.log").read_text().splitlines()
    assert lines == [f"True {here} {here} 0o27", "b'' [0, 1, 2, 3]", "err"], "3 is that of the listing"


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_ignored_or_blocked_in_a_command(tmp_path, way):
    shim = _shim(tmp_path, ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"], way)
    assert shim.line().startswith("STARTED")
    assert shim.end()["exit_code"] == 0
    lines = (shim.directory / "output.log").read_text().split()
    of_library = 1 << 31 | 1 << 32  # those of its threads, which glibc's posix_spawn leaves ignored
    assert lines[::2] == ["SigBlk:", "SigIgn:"]
    assert int(lines[1], 16) == int(lines[3], 16) & ~of_library == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_bare_name_is_looked_for_on_the_path_of_the_job(tmp_path, way):
    for name, text in (
        ("none", None),
        ("closed", "#!/bin/sh\necho wrong\n"),
        ("open", "#!/bin/sh\necho right\n"),
    ):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "tool").write_text(text)
    (tmp_path / "open" / "tool").chmod(0o755)
    path = f"{tmp_path}/absent:{tmp_path}/none:{tmp_path}/closed:{tmp_path}/open:/usr/bin:/bin"
    shim = _shim(tmp_path, ["tool"], way, env={"PATH": path})
    assert shim.line().startswith("STARTED")
    assert shim.end()["exit_code"] == 0
    assert (shim.directory / "output.log").read_text() == "right\n"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("argv", "cwd", "number", "text"),
    [
        (["no-such"], "/", errno.ENOENT, "cannot execute no-such: command not found"),
        (["./no-such"], "/", errno.ENOENT, "cannot execute ./no-such: command not found"),
        (["{home}/closed"], "/", errno.EACCES, "cannot execute {home}/closed: Permission denied"),
        (["closed"], "/", errno.EACCES, "cannot execute closed: Permission denied"),
        (["{home}/plain"], "/", errno.ENOEXEC, "cannot execute {home}/plain: Exec format error"),
        (["true"], "{home}/absent", errno.ENOENT,
            "cannot enter the directory {home}/absent: No such file or directory"),
        (["true"], "{home}/plain", errno.ENOTDIR, "cannot enter the directory {home}/plain: Not a directory"),
        (["true", "x" * (1 << 20)], "/", errno.E2BIG, "cannot execute true: Argument list too long"),
        (["true", "a\0b"], "/", 0, "cannot execute true: embedded null byte"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_executed_says_why(tmp_path, argv, cwd, number, text, way):
    (tmp_path / "closed").write_text("#!/bin/sh\n")
    (tmp_path / "plain").write_text("true\n")
    (tmp_path / "plain").chmod(0o755)
    argv, cwd, text = [
        [one.format(home=tmp_path) for one in argv], cwd.format(home=tmp_path), text.format(home=tmp_path)
    ]  # fmt: skip
    path = f"{tmp_path}:/usr/bin:/bin"
    shim = _shim(tmp_path, argv, way, cwd=cwd, env={"PATH": path})
    assert shim.line() == f"FAILED {text}"
    record = shim.end()
    assert (record["exec_error"], record["exec_errno"]) == (text, number)
    assert "exit_code" not in record


def test_the_shim_keeps_nothing_of_its_command(tmp_path):
    """Neither its directory, which may have to be unmounted, nor its umask, nor its tag."""
    here = tmp_path / "here"
    here.mkdir()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    shim = _shim(tmp_path, ["sh", "-c", f"read x < {gate}"], "spawned", cwd=str(here), umask=0o027)
    assert shim.line().startswith("STARTED")
    for file, name in (("status", "Umask:"), ("limits", "Max file locks")):
        of_shim, of_test = (
            [line for line in Path(f"/proc/{pid}/{file}").read_text().splitlines() if line.startswith(name)]
            for pid in (shim.process.pid, os.getpid())
        )
        assert of_shim == of_test != []
    if os.geteuid() == 0:  # it cannot be looked at otherwise
        assert Path(f"/proc/{shim.process.pid}/cwd").readlink() == Path("/")
    gate.write_text("\n")
    assert shim.end()["exit_code"] == 0


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
