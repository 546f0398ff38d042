"""Looks at files: what is recorded and refused at a submit, and what is said after a start."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path

import msgspec
import pytest

from leptond.base.errors import Invalid
from leptond.core.admission.admission import Admitted, Defaults, admit
from leptond.core.jobs import sources
from leptond.core.jobs.model import JobSpec
from leptond.core.jobs.sources import Note
from leptond.services import file_look as module
from leptond.services import submit_look
from leptond.services.file_look import FileLook
from leptond.services.source_files import look_at
from leptond.services.submit_look import Seen
from tests.support.queue import add, db

__all__ = ["db"]

PATH = "/usr/bin:/bin"


def admitted(*argv: str, **spec) -> Admitted:
    return admit(JobSpec(argv=list(argv), **spec), gpus=0, home="/", defaults=Defaults())


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that nothing can be written to."""
    tmp_path.chmod(0o500)
    return tmp_path


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


async def seen(*argv: str, **spec) -> Seen:
    (found,) = await FileLook(Path("/usr")).at_submit(
        [admitted(*argv, **spec)], user="ana", path=PATH, in_batch=False
    )
    return found


async def test_the_code_that_a_command_names_is_recorded(tmp_path: Path):
    file = tmp_path / "train.py"
    file.write_text("print(1)\n")
    found = await seen("/bin/sh", "train.py", "missing.py", cwd=str(tmp_path))
    (one,) = sources.decode(found.sources)
    assert (one.path, one.size, one.modified_ns) == (str(file), 9, file.stat().st_mtime_ns)
    assert one.sha256 == hashlib.sha256(b"print(1)\n").hexdigest()
    assert found.warnings == []


async def test_what_a_script_starts_is_recorded_and_the_script_itself_is_not(tmp_path: Path):
    for name in ("job.sh", "train.py"):
        (tmp_path / name).write_text("x\n")
    found = await seen(
        str(tmp_path / "job.sh"), cwd=str(tmp_path), script="#!/bin/sh\npython train.py --lr 3\n"
    )
    assert [one.path for one in sources.decode(found.sources)] == [str(tmp_path / "train.py")]


async def test_only_regular_files_are_looked_at(tmp_path: Path):
    os.mkfifo(tmp_path / "a.py")
    (tmp_path / "b.py").mkdir()
    (tmp_path / "c.py").symlink_to(tmp_path / "nowhere")
    found = await seen("/bin/sh", "a.py", "b.py", "c.py", cwd=str(tmp_path))
    assert found.sources == "[]"


async def test_a_file_that_looks_as_it_did_is_not_read_again(tmp_path: Path):
    file = tmp_path / "a.py"
    file.write_text("1\n")
    seen = look_at(str(file))
    assert seen is not None
    marked = msgspec.structs.replace(seen, sha256="not of this content")
    assert look_at(str(file), marked) is marked
    file.write_text("22\n")
    assert look_at(str(file), marked) == look_at(str(file))


async def test_a_large_file_is_not_read(tmp_path: Path):
    file = tmp_path / "big.py"
    with file.open("wb") as opened:
        opened.truncate(sources.MAX_HASHED_BYTES + 1)
    one = look_at(str(file))
    assert one is not None
    assert (one.size, one.sha256) == (sources.MAX_HASHED_BYTES + 1, None)


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["no-such-program"], "'no-such-program' is not on the job's PATH now"),
        (["./nothing"], "there is no program {here}/nothing now"),
        (["./plain"], "the program {here}/plain is not executable"),
        (["./sub"], "{here}/sub is a directory, not a program"),
        (["./lost"], "/no/such/python, which {here}/lost is to be run with, is not there now"),
        (["{here}/with a space"], None),
        (["sh"], None),
    ],
)
async def test_a_program_that_is_missing_is_said(tmp_path: Path, argv: list[str], word: str | None):
    (tmp_path / "plain").write_text("x")
    (tmp_path / "sub").mkdir()
    for name, text in (("lost", "#!/no/such/python\n"), ("with a space", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    found = await seen(*(one.format(here=tmp_path) for one in argv), cwd=str(tmp_path))
    assert [part for part in found.warnings if word and word.format(here=tmp_path) in part] == found.warnings
    assert bool(found.warnings) == (word is not None)


async def test_the_interpreter_of_a_script_that_is_missing_is_said(tmp_path: Path):
    found = await seen("/w/job.sh", script="#!/no/such/bash\n")
    assert found.warnings == ["the interpreter /no/such/bash of the script is not there now"]


async def test_a_line_in_quotes_is_refused_with_what_to_do(tmp_path: Path):
    with pytest.raises(Invalid, match="whole command line in quotes") as refused:
        await seen("echo hello world")
    assert (refused.value.pointer, "--shell" in (refused.value.hint or "")) == ("/argv/0", True)
    with pytest.raises(Invalid) as refused:
        await FileLook(Path("/usr")).at_submit(
            [admitted("true"), admitted("FOO=1", "x")], user="ana", path=PATH, in_batch=True
        )
    assert refused.value.pointer == "/jobs/1/argv/0"
    assert (await seen("echo hello world", shell=True)).warnings == []


@pytest.mark.parametrize(
    ("output", "refused"),
    [
        ("new/deep/x.log", None),
        ("%x/%j.log", None),
        ("file/x.log", "file is not a directory"),
        ("file/%j/x.log", "file is not a directory"),
        ("sub", "is a directory"),
    ],
)
async def test_an_output_that_cannot_come_to_be_is_refused(tmp_path: Path, output: str, refused: str | None):
    (tmp_path / "file").touch()
    (tmp_path / "sub").mkdir()
    if refused is None:
        await seen("true", output=f"{tmp_path}/{output}")
    else:
        with pytest.raises(Invalid, match=refused) as error:
            await seen("true", output=f"{tmp_path}/{output}")
        assert error.value.pointer == "/output"
    assert names(tmp_path) == ["file", "sub"]  # a submit makes nothing


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_an_output_in_a_directory_that_is_not_writable_is_refused(closed: Path):
    with pytest.raises(Invalid, match="not writable"):
        await seen("true", output=f"{closed}/x.log")


def the_job(db, tmp_path: Path, name: str, *, submitted_at: float):
    job = add(db)
    found = look_at(str(tmp_path / name))
    assert found is not None
    row = db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
    from leptond.store.database import rows

    return msgspec.structs.replace(rows.job(row), sources=sources.encode([found]), submitted_at=submitted_at)


async def test_a_file_that_was_changed_before_the_start_is_noted(db, tmp_path: Path):
    file = tmp_path / "train.py"
    file.write_text("print(1)\n")
    job = the_job(db, tmp_path, "train.py", submitted_at=time.time() - 10)
    look = FileLook(Path("/usr"))
    assert await look.changes(job, started_at=time.time() + 10) == []
    file.write_text("print(2)\n")
    (note,) = await look.changes(job, started_at=time.time() + 10)
    assert note.kind == "source-changed"
    assert note.text.startswith(f"{file} was changed at ")
    assert note.text.endswith(", after the submit: this attempt ran the new one")
    assert await look.changes(job, started_at=time.time() - 3600) == []  # it had started before
    file.unlink()
    assert await look.changes(job, started_at=time.time() + 10) == []


async def test_a_script_that_is_another_one_by_now_is_said(db, tmp_path: Path):
    file = tmp_path / "job.sh"
    file.write_text("echo 1\n")
    job = msgspec.structs.replace(
        the_job(db, tmp_path, "job.sh", submitted_at=1.0),
        spec=JobSpec(argv=[str(file)]),
        script_sha256=hashlib.sha256(b"echo 1\n").hexdigest(),
    )
    look = FileLook(Path("/usr"))
    assert await look.script_warnings(job) == []
    file.write_text("echo 2\n")
    (word,) = await look.script_warnings(job)
    assert str(file) in word
    assert await look.script_warnings(msgspec.structs.replace(job, script_sha256=None)) == []


async def test_a_disk_that_hangs_holds_up_no_submit(monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(submit_look, "look_at", lambda _: hang.wait(60))
    look = FileLook(Path("/usr"))
    for _ in range(2):
        async with asyncio.timeout(30):
            (found,) = await look.at_submit(
                [admitted("/bin/sh", "/w/a.py")], user="ana", path=PATH, in_batch=False
            )
        assert found.sources == "[]"
        assert "a disk did not answer" in found.warnings[0]
    hang.set()


def test_a_day_is_named_where_it_is_another() -> None:
    now = time.time()
    assert len(module._in_words(now, now)) == len("14:02:00")
    assert module._in_words(now - 86400 * 3, now).startswith(
        time.strftime("%Y-%m-", time.localtime(now - 259200))
    )


def test_notes_are_values() -> None:
    note = Note(kind="output-failed", text="x")
    assert msgspec.json.decode(msgspec.json.encode(note), type=Note) == note


async def test_a_program_that_was_there_a_moment_ago_is_not_looked_at_again(monkeypatch, tmp_path: Path):
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    looks = []
    inner = submit_look._program_fault
    monkeypatch.setattr(submit_look, "_program_fault", lambda *given: (looks.append(given), inner(*given))[1])
    look, one = FileLook(Path("/usr")), admitted(str(program))

    async def ask():
        (found,) = await look.at_submit([one], user="ana", path=PATH, in_batch=False)
        return found.warnings

    monkeypatch.setattr(submit_look, "SYSTEM", (str(tmp_path),))  # its own file is not recorded
    monkeypatch.setattr(submit_look, "MOMENT_S", 60.0)
    assert [await ask(), await ask(), len(looks)] == [[], [], 1]
    program.unlink()
    monkeypatch.setattr(submit_look, "MOMENT_S", 0.0)
    assert await ask() == [f"there is no program {program} now"]


async def test_a_directory_and_a_script_are_looked_at_again_once_they_may_have_changed(monkeypatch, tmp_path):
    look, one = FileLook(Path("/usr")), admitted("true", cwd=str(tmp_path / "w"))
    monkeypatch.setattr(submit_look, "MOMENT_S", 60.0)

    async def ask():
        (found,) = await look.at_submit([one], user="ana", path=PATH, in_batch=False, unsaid=[True])
        return (found.no_directory, found.training)

    assert await ask() == (True, None)  # what is missing is not remembered
    (tmp_path / "w").mkdir()
    assert await ask() == (False, None)
    (tmp_path / "w").rmdir()
    assert await ask() == (False, None)
    monkeypatch.setattr(submit_look, "MOMENT_S", 0.0)
    assert await ask() == (True, None)
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "true").write_text("import torch")
    assert await ask() == (False, "it imports torch")


async def test_a_launcher_is_seen_however_well_known_its_files_are(monkeypatch):
    look = FileLook(Path("/usr"))
    monkeypatch.setattr(submit_look, "MOMENT_S", 60.0)
    some = [admitted("true"), admitted("true", "torchrun"), admitted("true")]
    for _ in range(2):
        found = await look.at_submit(some, user="ana", path=PATH, in_batch=True, unsaid=[True] * 3)
        assert [one.training for one in found] == [None, "it calls torchrun", None]
    found = await look.at_submit(some[:2], user="ana", path=PATH, in_batch=True, unsaid=[True, False])
    assert [one.training for one in found] == [None, None]
