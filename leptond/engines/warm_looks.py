"""What an import asks that is different for each job.

Loaded by a zygote that runs in the job's interpreter; uses the standard library alone. While :class:`Looks`
is entered, questions about the current directory, the process's id, the program's arguments, files outside
the installation and warnings are noted."""

from __future__ import annotations

import builtins
import os
import sys
import warnings

from leptond.engines.warm_files import file_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

NOWHERE = f"/proc/{os.getpid()}/task"
"""The current directory during imports: what they keep of it can be told by it."""
FUNCTION = 0x1
"""The flag of the code of a function; bodies of modules and classes lack it."""
OURS = (
    __file__,
    *(os.path.join(os.path.dirname(__file__), f"warm_{name}.py") for name in ("units", "imports")),
)
"""Files between an import and what it is for."""
SYSTEM = ("/proc/", "/sys/", "/dev/")


class Watched(list):  # type: ignore[type-arg]
    """The program's arguments, which note that an import has looked at them."""

    looked = False

    def __getitem__(self, index: Any) -> Any:
        Watched.looked = True
        return super().__getitem__(index)

    def __iter__(self) -> Any:
        Watched.looked = True
        return super().__iter__()

    def __len__(self) -> int:
        Watched.looked = True
        return super().__len__()


class Pid(int):
    """A process id, of which can be told if somebody keeps it."""


class Looks:
    """What an import has asked. `beside` are names of files that it looked for in the current directory,
    `outside` the states of files elsewhere but in the installation, `warned` the warnings that it gave."""

    def __init__(self) -> None:
        self.beside: set[str] = set()
        self.outside: dict[str, object] = {}
        self.warned: list[tuple[Any, Any, str, int]] = []
        self._pids: list[tuple[Pid, str]] = []
        self._undo: list[tuple[Any, str, Any]] = []
        self._argv_looked = self._moved = False
        roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path}
        self._inside = (*(f"{root.rstrip('/')}/" for root in roots if root.strip("/")), *SYSTEM)

    def __enter__(self) -> Looks:
        os.chdir(NOWHERE)
        self._replace(os, "getpid", self._getpid)
        for place, name in (
            (os, "stat"),
            (os, "lstat"),
            (os, "access"),
            (os, "listdir"),
            (os, "scandir"),
            (builtins, "open"),
        ):
            self._replace(place, name, self._looking(getattr(place, name)))
        for name in ("warn", "warn_explicit"):
            self._replace(warnings, name, self._warning(getattr(warnings, name)))
        self._replace(sys, "argv", Watched(sys.argv))
        Watched.looked = False
        return self

    def __exit__(self, *_: object) -> None:
        self._argv_looked = Watched.looked
        for place, name, plain in reversed(self._undo):
            setattr(place, name, plain)
        self._moved = os.getcwd() != NOWHERE
        os.chdir("/")

    def _replace(self, place: Any, name: str, value: Any) -> None:
        self._undo.append((place, name, getattr(place, name)))
        setattr(place, name, value)

    def _getpid(self) -> int:
        pid = Pid(self._undo[0][2]())
        frame = sys._getframe(1)
        if not frame.f_code.co_flags & FUNCTION and not _asks_again(frame.f_globals):
            self._pids.append((pid, str(frame.f_globals.get("__name__", "?"))))
            return pid
        return int(pid)  # it is compared with the present one whenever it counts

    def _looking(self, plain: Any) -> Any:
        def call(path: Any = ".", *args: Any, **more: Any) -> Any:
            self._note_path(path)
            return plain(path, *args, **more)

        return call

    def _note_path(self, path: Any) -> None:
        if isinstance(path, int):
            return
        text = os.fsdecode(path)
        if text.startswith(NOWHERE):
            text = text[len(NOWHERE) :].lstrip("/")
        if not text.startswith("/"):
            if text not in ("", "."):
                self.beside.add(text)
        elif not f"{text}/".startswith(self._inside) and text not in self.outside:
            self.outside[text] = None  # its state is taken when the import is over

    def _warning(self, plain: Any) -> Any:
        explicit = plain.__name__ == "warn_explicit"

        def warn(message: Any, category: Any = None, *args: Any, **more: Any) -> Any:
            if explicit:
                self.warned.append((message, category, *args[:2]))
                return plain(message, category, *args, **more)
            level = more.pop("stacklevel", args[0] if args else 1)
            frame = _caller(sys._getframe(1), level)
            kind = type(message) if isinstance(message, Warning) else category or UserWarning
            if frame is None or frame.f_code.co_filename in OURS:
                self.warned.append((message, kind, "", 0))  # the job that imports it
            else:
                self.warned.append((message, kind, frame.f_code.co_filename, frame.f_lineno))
            return plain(message, category, level + 1, **more)

        return warn

    def warn_again(self) -> None:
        """Give the warnings of the import once more, in a job that may filter them in another way."""
        job = _caller(sys._getframe(1), 1)
        while job is not None and job.f_code.co_filename in OURS:
            job = _caller(job, 2)
        for message, kind, path, line in self.warned:
            if not path and job is not None:
                path, line = job.f_code.co_filename, job.f_lineno
            warnings.warn_explicit(message, kind, path or "sys", line, registry={})

    def finish(self, modules: dict[str, Any]) -> tuple[str, list[tuple[Any, str, str]]]:
        """Return why the import cannot be used (empty: it can), and what its `modules` keep of the current
        directory: the module, the attribute, and the rest of the path."""
        self.outside = {path: outside_state(path) for path in self.outside}
        if self._moved:
            return "changes the current directory", []
        if self._argv_looked:
            return "looks at the program's arguments", []
        for pid, who in self._pids:
            if sys.getrefcount(pid) > 3:  # our list, this loop, the call
                return f"keeps the process's id ({who})", []
        return "", list(_kept_directories(modules))


def _caller(frame: Any, level: int) -> Any:
    """Return the frame that a warning with this stack level is about: those of the import system do not
    count. None: there are not so many."""
    while frame is not None:
        if not ("importlib" in frame.f_code.co_filename and "_bootstrap" in frame.f_code.co_filename):
            level -= 1
            if level <= 0:
                return frame
        frame = frame.f_back
    return None


def is_beside(name: str) -> bool:
    """Return True if the current directory has a file of this name, or a link. A directory is none: to find
    out where a path leads, all on its way are looked at."""
    return os.path.islink(name) or (os.path.exists(name) and not os.path.isdir(name))


def outside_state(path: str) -> object:
    """Return what changes with a file elsewhere. Of a directory that is only that it is one: it is looked at
    on the way to something else."""
    return "directory" if os.path.isdir(path) else file_state(path)


def _asks_again(names: dict[str, Any]) -> bool:
    """Return True if functions of this module ask for the process's id when they are called."""
    code = sys._getframe(2).f_code
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals is names:
        code = frame.f_code
        if frame.f_back is None:
            break
        frame = frame.f_back
    return any(one.co_flags & FUNCTION and "getpid" in one.co_names for one in _codes(code))


def _codes(code: Any) -> Iterator[Any]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from _codes(constant)


def _kept_directories(modules: dict[str, Any]) -> Iterator[tuple[Any, str, str]]:
    for module in modules.values():
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if isinstance(value, (str, os.PathLike)) and not name.startswith("__"):
                text = str(value)
                if text.startswith(NOWHERE):
                    yield module, name, text[len(NOWHERE) :]


def put_directory(kept: list[tuple[Any, str, str]]) -> None:
    """Give modules the current directory of the job, where they have kept that of the import."""
    for module, name, rest in kept:
        value = vars(module)[name]
        make: Callable[[str], Any] = type(value)
        vars(module)[name] = make(os.getcwd() + rest)
