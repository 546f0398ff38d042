"""`leptonctl`: the command line of leptond. Each command is imported only when it is used, and none of
them imports the daemon."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module

from leptond.cli.framework.registry import ALIASES, MODULES, SECTIONS, load

__all__ = ["ALIASES", "MODULES", "SECTIONS", "load", "main", "program"]

_COMPLETE = "_LEPTONCTL_COMPLETE"


def main() -> None:
    """The entry point. A call that is spelled plainly is carried out at once; for all others, click is
    imported, which takes several times as long as a bare interpreter."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # a name in an odd encoding must not end the command that prints it
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if _COMPLETE not in os.environ:
        code = _at_once(sys.argv[1:])
        if code is not None:
            sys.exit(code)
    elif os.environ[_COMPLETE].startswith("bash"):
        import_module("leptond.cli.commands.completion")  # has a bash completion of its own
    from leptond.cli.framework.click_bridge import group

    group(prog_name="leptonctl", complete_var=_COMPLETE)


def _open_standard_streams() -> None:
    """Put nothing in the place of standard streams that the caller has closed: else the next file or
    connection would get their numbers."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:  # it is open, and of no use to Python
                os.close(null)
            setattr(sys, name, open(fd if null == fd else os.devnull, mode, closefd=null != fd))  # noqa: SIM115


def program() -> None:
    """The program `leptonctl`: :func:`main` without the end of the interpreter, which takes as long as a
    request. Everything is closed by then; only what was printed has to go out."""
    code = 0
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise  # a message, which the interpreter prints
        code = end.code or 0
    except BrokenPipeError:
        code = 1
    except OSError as error:  # before or after a command: a help page on a full disk
        code = _fail(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except (OSError, ValueError) as error:
        code = code or _fail(error)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def _fail(error: Exception) -> int:
    """Say in one sentence what the system refused; return the exit code."""
    from leptond.cli.framework.session import EXIT_FAILED, sentence_of

    with suppress(OSError, ValueError):
        words = sentence_of(error) if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"leptonctl: {words}\n")
    return EXIT_FAILED


def _at_once(words: list[str]) -> int | None:
    """Carry out a call without click; return its exit code, or None when click has to read the call."""
    from leptond.base.usage import UsageError
    from leptond.cli.framework.declare import SHARED, Command, parse, read
    from leptond.cli.framework.session import Session

    before = read(SHARED, words, interspersed=False)
    if before is None or not before.rest:
        return None
    name, *rest = before.rest
    name = ALIASES.get(name, name)
    command = load(name) if name in MODULES else None
    if not isinstance(command, Command):
        return None
    session = Session()
    try:
        found = parse(command, rest)
        if found is None:
            return None
        values, shared = found
        for key, value in (*before.raw.items(), *shared.items()):
            if value:  # only ever switched on: `--json show 3` and `show --json 3` are the same
                setattr(session, key, value)
        return session.run(lambda: command.function(session, **values))
    except UsageError as usage:
        from leptond.cli.framework.click_bridge import explain

        return explain(command, usage, words)
    except BrokenPipeError:
        # the reader of our output has gone, as `head` does: the interpreter's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
