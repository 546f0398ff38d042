"""Where the copy of a job's output may be written, and what becomes of what stands there."""

import os
import socket
import stat
from pathlib import Path

import pytest

from leptond.attempt_files import layout
from leptond.services import output_file
from leptond.services.output_file import OutputRefused, why_not

USER = "nobody-that-exists"


class Job:
    """A job whose attempts have printed ``1``, ``2``, ... and whose copy goes to `path`."""

    def __init__(self, tmp_path: Path, number: int = 7, mode: str = "append") -> None:
        self.state = tmp_path / "state"
        self.directory = self.state / "jobs" / str(number)
        self.path = tmp_path / "out" / "train.log"
        self.path.parent.mkdir(exist_ok=True)
        self.truncate = mode == "truncate"
        self.number = number
        for attempt in (1, 2, 3):
            (self.directory / str(attempt)).mkdir(parents=True)
            (self.directory / str(attempt) / layout.OUTPUT).write_text(f"{number}: attempt {attempt}\n")

    def link(self, attempt: int) -> None:
        output_file.link(self.path, self.directory, attempt, truncate=self.truncate, user=USER)

    def write(self, last: int) -> str:
        output_file.write(self.path, self.directory, last, truncate=self.truncate, user=USER)
        return self.path.read_text()

    def printed(self, *attempts: int) -> str:
        return "".join(f"{self.number}: attempt {one}\n" for one in attempts)


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def test_a_link_while_it_runs_and_a_file_of_all_attempts_afterwards(job):
    for attempt in (1, 2, 3):
        job.link(attempt)
        assert job.path.readlink() == job.directory / str(attempt) / layout.OUTPUT
        assert job.write(attempt) == job.printed(*range(1, attempt + 1))
        assert not job.path.is_symlink()
    assert [file.name for file in job.path.parent.iterdir()] == [job.path.name], "nothing else is left"
    assert job.path.stat().st_mode & 0o111 == 0


def test_what_stands_there_is_kept_and_the_output_comes_after_it(job):
    job.path.write_text("precious\n")
    job.link(1)
    assert job.path.read_text() == "precious\n"
    assert not job.path.is_symlink()
    assert job.write(1) == "precious\n" + job.printed(1)
    job.link(2)
    assert job.write(2) == "precious\n" + job.printed(1, 2), "each attempt once"


def test_truncate_puts_it_in_the_place_of_what_stands_there(tmp_path):
    job = Job(tmp_path, mode="truncate")
    job.path.write_text("of the last run, and longer than this one's\n" * 3)
    job.link(1)
    assert job.path.is_symlink()
    assert job.write(1) == job.printed(1)
    assert job.write(2) == job.printed(1, 2), "not of its own attempts"


def test_jobs_with_one_path_lose_nothing_of_each_other(tmp_path):
    one, other = Job(tmp_path, 7), Job(tmp_path, 8)
    one.link(1)
    other.link(1)
    one.write(1)
    other.write(1)
    one.write(2)
    assert other.write(2) == one.printed(1) + other.printed(1) + one.printed(2) + other.printed(2)


def test_a_write_that_was_killed_is_done_once(job, monkeypatch):
    job.path.write_text("precious\n")

    def half(fd: int, _: object) -> None:
        os.write(fd, b"7: att")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(output_file, "_append", half)
        with pytest.raises(KeyboardInterrupt):
            job.write(1)
    assert job.write(1) == "precious\n" + job.printed(1)
    assert job.write(1) == "precious\n" + job.printed(1), "and its event is carried out a second time"


def test_a_file_that_was_exchanged_is_another_one(job):
    job.write(1)
    job.path.rename(job.path.with_name("kept"))
    job.path.write_text("mine\n")
    assert job.write(2) == "mine\n" + job.printed(1, 2)
    assert job.path.with_name("kept").read_text() == job.printed(1)


def make(path: Path, what: str) -> None:
    match what:
        case "directory":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(path))
        case "device":
            try:
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # a /dev/null of our own
            except PermissionError:
                pytest.skip("only root makes devices")
        case "link":
            path.with_name("other").write_text("precious")
            path.symlink_to(path.with_name("other"))
        case "dangling link":
            path.symlink_to(path.with_name("nothing"))
        case "hard link":
            path.with_name("other").write_text("precious")
            os.link(path.with_name("other"), path)


@pytest.mark.parametrize("mode", ["append", "truncate"])
@pytest.mark.parametrize(
    "what", ["directory", "FIFO", "socket", "device", "link", "dangling link", "hard link"]
)
def test_what_is_no_file_of_its_own_is_refused_and_stays(tmp_path, what, mode):
    job = Job(tmp_path, mode=mode)
    make(job.path, what)
    before = job.path.lstat()
    assert what.split()[-1] in why_not(job.path, job.state, USER)
    for act in (lambda: job.link(1), lambda: job.write(1)):
        with pytest.raises(OutputRefused):
            act()
    after = job.path.lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert not job.path.with_name("nothing").exists()
    other = job.path.with_name("other")
    assert not other.exists() or other.read_text() == "precious"


@pytest.mark.parametrize("way", ["straight", "by a link", "by dots"])
def test_nothing_is_written_below_the_state_directory(job, tmp_path, way):
    (tmp_path / "way").symlink_to(job.state)
    place = {
        "straight": job.state / "jobs" / "x",
        "by a link": tmp_path / "way" / "leptond.db",
        "by dots": Path(f"{tmp_path}/out/../state/x"),
    }[way]
    assert "in the state directory" in why_not(place, job.state, USER)
    with pytest.raises(OutputRefused, match="in the state directory"):
        output_file.write(place, job.directory, 1, truncate=True, user=USER)
    assert not place.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of others")
def test_files_and_links_of_somebody_else_are_refused(job, tmp_path):
    job.path.write_text("theirs")
    os.chown(job.path, 12345, -1)
    assert "somebody else" in why_not(job.path, job.state, USER)
    with pytest.raises(OutputRefused, match="uid 12345"):
        job.write(1)
    assert job.path.read_text() == "theirs"
    (tmp_path / "way").symlink_to(job.path.parent)
    job.path.unlink()
    job.path = tmp_path / "way" / "train.log"
    assert job.write(1) == job.printed(1), "a link of this user is followed"
    os.chown(tmp_path / "way", 12345, -1, follow_symlinks=False)
    assert "somebody else" in why_not(job.path, job.state, USER)
    with pytest.raises(OutputRefused, match="somebody else"):
        job.write(2)


def test_a_place_where_nothing_stands_is_free(job, tmp_path):
    for free in (job.path, tmp_path / "nowhere" / "x"):
        assert why_not(free, job.state, USER) is None
    job.link(1)
    assert why_not(job.path, job.state, USER) is None, "a link of leptond's own makes room"
    job.write(1)
    assert why_not(job.path, job.state, USER) is None
