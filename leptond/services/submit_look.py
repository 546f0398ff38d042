"""The look at the files of one submit: whether what its jobs name is there, and as what."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from leptond.base.errors import Invalid
from leptond.base.sharing import distinct
from leptond.core.admission.admission import Admitted
from leptond.core.admission.training import script_of, sign_of_training
from leptond.core.jobs import scripts, sources
from leptond.core.jobs.model import JobSpec
from leptond.core.jobs.sources import SourceFile
from leptond.services import output_file
from leptond.services.source_files import head_of, look_at

MOMENT_S = 1.0
MOST_SEEN = 3000

SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib")
"""Below these nothing is a user's own code."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for one spec: its files, encoded, and what its owner should know. `training`: why its
    command looks like a training (None: it does not, or that was not asked)."""

    sources: str = "[]"
    warnings: Sequence[str] = ()
    no_directory: bool = False
    training: str | None = None


_Key = tuple[str, ...]


class Recent:
    """What was found to be fine a moment ago: many submits in a row name the same files. Keys are the kind of
    a thing, and its name."""

    def __init__(self) -> None:
        self._seen_at: dict[_Key, float] = {}

    def is_fine(self, key: _Key) -> bool:
        """Return True for what was found so within the last MOMENT_S seconds."""
        return time.monotonic() < self._seen_at.get(key, -math.inf) + MOMENT_S

    def note(self, key: _Key) -> None:
        """Remember that it is fine now."""
        if len(self._seen_at) >= MOST_SEEN:
            self._seen_at.clear()
        self._seen_at[key] = time.monotonic()


class SubmitLook:
    """The looks of one request, whose jobs name the same files. `path`: the PATH of a job that sets none;
    `recent` outlives the request; `as_user`: jobs run with the rights of `user`, and this looks with them.
    Only :meth:`is_known` touches no disk."""

    def __init__(
        self, path: str, state_dir: Path, user: str, recent: Recent, *, as_user: bool = False
    ) -> None:
        self._account = user if as_user else "the user that leptond runs as"
        self._path = path
        self._state_dir = state_dir
        self._user = user
        self._recent = recent
        self._outputs: dict[str, str | None] = {}
        self._files: dict[str, SourceFile | None] = {}
        self._faults: dict[_Key, str | None] = {}
        self._directories: dict[str, bool] = {}
        self._texts: dict[str, str] = {}

    def look(self, admitted: Sequence[Admitted], *, unsaid: Sequence[bool], in_batch: bool) -> list[Seen]:
        """Look at what each spec names; `unsaid`: which of them may be trainings that forgot their GPU.
        Raises Invalid for the first that can never start; in a batch the pointer names it."""
        found: dict[tuple[int, bool], Seen] = {}
        for position, (one, asked) in enumerate(zip(admitted, unsaid, strict=True)):
            if (id(one), asked) in found:
                continue
            try:
                found[id(one), asked] = Seen(
                    sources=self._sources(one),
                    warnings=self._warnings(one),
                    no_directory=not self._is_directory(one.spec.cwd or "/"),
                    training=self._training(one.spec) if asked else None,
                )
            except Invalid as refusal:
                raise (refusal.within(f"/jobs/{position}") if in_batch else refusal) from None
        return [found[id(one), asked] for one, asked in zip(admitted, unsaid, strict=True)]

    def all_known(self, admitted: Sequence[Admitted], *, unsaid: Sequence[bool]) -> bool:
        """Return True if a look at any of these specs would find nothing to say or to record."""
        if any(unsaid) and not all(unsaid):
            return False
        asked = any(unsaid)
        return all(self._is_known(one, asked=asked) for one in distinct(admitted))

    def _is_known(self, one: Admitted, *, asked: bool) -> bool:
        """Return True for a spec that names nothing but what was there a moment ago."""
        spec = one.spec
        if one.script is not None or spec.output is not None:
            return False
        if not self._recent.is_fine(("directory", spec.cwd or "/")):
            return False
        if not spec.shell and not self._recent.is_fine(self._program(spec)):
            return False
        if asked and not self._is_no_training(spec):
            return False
        return all(path.startswith(SYSTEM) for path in self._named(one))

    def _is_no_training(self, spec: JobSpec) -> bool:
        script = script_of(spec.argv, shell=spec.shell)
        if script is not None and not self._recent.is_fine(("no text", _script_path(spec, script))):
            return False
        return sign_of_training(spec.argv, "") is None

    def _training(self, spec: JobSpec) -> str | None:
        """Return why a command looks like a training."""
        script = script_of(spec.argv, shell=spec.shell)
        text = "" if script is None else self._text(_script_path(spec, script))
        return sign_of_training(spec.argv, text)

    def _text(self, path: str) -> str:
        if path not in self._texts:
            self._texts[path] = head_of(Path(path))
            if not self._texts[path]:
                self._recent.note(("no text", path))
        return self._texts[path]

    def _is_directory(self, path: str) -> bool:
        if path not in self._directories:
            self._directories[path] = os.path.isdir(path)  # noqa: PTH112 - pathlib raises where it may not look
            if self._directories[path]:
                self._recent.note(("directory", path))
        return self._directories[path]

    def _named(self, one: Admitted) -> list[str]:
        """Return the files that a command names."""
        spec, cwd = one.spec, one.spec.cwd or "/"
        if one.script is not None and one.script.text is not None:
            # the script itself is kept; what it starts is not
            named = scripts.named_files(["sh", *spec.argv[1:]], shell=False, cwd=cwd)
            return [*named, *scripts.named_in_script(one.script.text, cwd=cwd)]
        return list(scripts.named_files(spec.argv, shell=spec.shell, cwd=cwd))

    def _sources(self, one: Admitted) -> str:
        named = dict.fromkeys(self._named(one))
        files = [self._file(path) for path in named if not path.startswith(SYSTEM)]
        return sources.encode([file for file in files if file is not None][: scripts.MAX_FILES])

    def _file(self, path: str) -> SourceFile | None:
        if path not in self._files:
            self._files[path] = look_at(path)
        return self._files[path]

    def _warnings(self, one: Admitted) -> list[str]:
        spec = one.spec
        self._check_output(spec)
        if spec.shell:
            return []
        if one.script is not None:
            program = scripts.interpreter((one.script.text or "").encode())[0]
            there = not program.startswith("/") or os.path.exists(program)  # noqa: PTH110
            return [] if there else [f"the interpreter {program} of the script is not there now"]
        key = self._program(spec)
        if key not in self._faults:
            self._faults[key] = _program_fault(spec, key[-1])
            if self._faults[key] is None:
                self._recent.note(key)
        word = self._faults[key]
        return [word] if word is not None else []

    def _program(self, spec: JobSpec) -> _Key:
        """Return the key of a program: its name, the directory that this counts from, and the PATH."""
        return ("program", spec.argv[0], spec.cwd or "/", spec.env.get("PATH") or self._path)

    def _check_output(self, spec: JobSpec) -> None:
        """Refuse an output that cannot come to be: its directory is made when the job starts. Where the name
        depends on the job, its directory is looked at. Raises Invalid."""
        if spec.output is None:
            return
        before, mark, _ = spec.output.partition("%")
        place = str(Path(before + "x").parent / "%") if mark else spec.output
        if place not in self._outputs:
            self._outputs[place] = self._output_fault(place)
        why = self._outputs[place]
        if why is not None:
            raise Invalid(
                f"the output cannot be written to {spec.output}: {why}",
                pointer="/output",
                hint="name another place with --output; /dev/null asks for no copy",
            )

    def _output_fault(self, place: str) -> str | None:
        fault = output_file.why_not(Path(place), self._state_dir, self._user)
        if fault is not None:
            return fault
        directory = Path(place).parent
        while not os.path.lexists(directory):
            directory = directory.parent
        if not os.path.isdir(directory):  # noqa: PTH112
            return f"{directory} is not a directory"
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            return f"{directory} is not writable for {self._account}"
        return None


def _script_path(spec: JobSpec, script: str) -> str:
    return os.path.join(spec.cwd or "/", script)  # noqa: PTH118  # for every submit


def _program_fault(spec: JobSpec, path: str) -> str | None:
    """Say what is wrong with the program of a command; None: nothing. Raises Invalid for what no program can
    be called."""
    program = spec.argv[0]
    if "/" not in program:
        if shutil.which(program, path=path) is not None:
            return None
        _refuse_misquoted(spec)
        return f"{program!r} is not on the job's PATH now; it is looked for again when the job starts"
    file = Path(spec.cwd or "/", program)
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        _refuse_misquoted(spec)
        return f"there is no program {file} now"
    except OSError as error:
        return f"the program {file} cannot be looked at: {error.strerror}"
    if stat.S_ISDIR(mode):
        return f"{file} is a directory, not a program"
    if not os.access(file, os.X_OK, effective_ids=True):
        return f"the program {file} is not executable"
    with contextlib.suppress(OSError), file.open("rb") as opened:
        first = opened.read(512)
        needed = scripts.interpreter(first)[0]
        if first.startswith(b"#!") and needed.startswith("/") and not os.path.exists(needed):  # noqa: PTH110
            return f"{needed}, which {file} is to be run with, is not there now"
    return None


def _refuse_misquoted(spec: JobSpec) -> None:
    wrong = scripts.misquoted(spec.argv)
    if wrong is not None:
        raise Invalid(wrong[0], pointer="/argv/0", hint=wrong[1])
