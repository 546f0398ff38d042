"""Scripts and the files that a command names: which of them is copied at the submit, which runs from where it
lies, and with which interpreter. Pure; standard library alone, because the command line imports it."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Sequence
from itertools import pairwise

MAX_SCRIPT_BYTES = 256 * 1024
"""The largest script of which a copy is kept."""

MAX_FILES = 8
"""The most files of one command that are compared."""

_SHELL = re.compile(r"^(ba|da|a|z|k|mk|pdk|c|tc|fi|r?ba)?sh[0-9.-]*\Z")
_INTERPRETER = re.compile(
    r"^(pythonw?|pypy|perl|ruby|node|nodejs|deno|bun|Rscript|julia|lua|php|tclsh|torchrun|accelerate|deepspeed"
    r"|ipython|coverage|uv|poetry|pipenv|conda|micromamba|mamba|env|time|nice|nohup|timeout|numactl|taskset"
    r"|stdbuf|xvfb-run|mpirun|mpiexec|horovodrun|busybox)[0-9.]*\Z"
)
_CODE = re.compile(r"\.(py|pyz|ipynb|sh|bash|zsh|ksh|csh|fish|pl|rb|js|mjs|ts|R|r|jl|lua|php|tcl)\Z")
_WORD = re.compile(r"[A-Za-z0-9_./@+-]{1,255}")
_MODULE = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*\Z")


def interpreter(script: bytes) -> list[str]:
    """The words to put before a script's path to run it, as the kernel and the shell would: those of its
    first line, else the shell.

    >>> interpreter(b"#!/usr/bin/env -S bash -e\\necho"), interpreter(b"echo hi")
    (['/usr/bin/env', '-S bash -e'], ['/bin/sh'])
    """
    first = script[:512].partition(b"\n")[0]
    if first.startswith(b"#!"):
        # the kernel hands over everything behind the interpreter as one argument
        words = first[2:].decode("utf-8", "surrogateescape").strip().split(None, 1)
        if words:
            return words
    return ["/bin/sh"]


def is_shell(words: Sequence[str]) -> bool:
    """Return True if these words, of a script's first line, start a shell. Scripts of other languages load
    what lies beside them.

    >>> is_shell(["/usr/bin/env", "-S bash -e"]), is_shell(["/usr/bin/env", "python3"])
    (True, False)
    """
    program, *rest = words
    if posixpath.basename(program) == "env":
        names = [word for word in " ".join(rest).split() if not word.startswith("-") and "=" not in word]
        program = names[0] if names else ""
    return _SHELL.match(posixpath.basename(program)) is not None


def named_files(argv: Sequence[str], *, shell: bool, cwd: str) -> list[str]:
    """The absolute paths that may be the program of a command, or code that it names: whoever looks finds out
    which are there.

    >>> named_files(["/usr/bin/python3", "-u", "train.py", "--out", "x.txt"], shell=False, cwd="/w")
    ['/w/train.py']
    >>> named_files(["python", "-m", "pkg.main"], shell=False, cwd="/w")
    ['/w/pkg/main.py', '/w/pkg/main/__main__.py']
    """
    words = _words_of_line(argv[0]) if shell else list(argv)
    found: list[str] = []
    first = words[0] if words else ""
    starts = _starts_something(first)
    if "/" in first and not starts and not shell:
        found.append(first)
    code = [word for word in words[1:] if _CODE.search(word) and not word.startswith("-")]
    if starts and not code:
        # a script without a suffix, behind the options of its interpreter
        code = [word for word in words[1:] if not word.startswith("-")][:1]
    if starts and "-c" in words[:-1]:
        line = words[words.index("-c") + 1]
        code = _code_in(line)
    if shell:
        code += [first] if "/" in first and not starts else []
    for before, word in pairwise(words):
        if before == "-m" and _MODULE.match(word):
            path = word.replace(".", "/")
            code = [f"{path}.py", f"{path}/__main__.py", *(one for one in code if one != word)]
            break
    found += code
    paths = [posixpath.normpath(posixpath.join(cwd, word)) for word in found if "\0" not in word]
    return list(dict.fromkeys(paths))[:MAX_FILES]


def named_in_script(text: str, *, cwd: str) -> list[str]:
    """The absolute paths that may be code which a script starts, as seen from the directory of its job.

    >>> named_in_script("cd x\\npython train.py --lr 3\\n", cwd="/w")
    ['/w/train.py']
    """
    found = _code_in(text)
    return list(dict.fromkeys(posixpath.normpath(posixpath.join(cwd, word)) for word in found))[:MAX_FILES]


def _code_in(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if _CODE.search(word)]


def _starts_something(program: str) -> bool:
    name = posixpath.basename(program)
    return _SHELL.match(name) is not None or _INTERPRETER.match(name) is not None


def _words_of_line(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return line.split()


# -- words that a shell has to read --------------------------------------------------------------------------

_ASSIGNMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*=")
_BUILTIN = frozenset({"cd", "export", "source", ".", "alias", "eval", "set", "ulimit", "unset", "exec"})
_LINE = re.compile(r"[\s|&;<>()`$]")


def misquoted(argv: Sequence[str]) -> tuple[str, str] | None:
    """What is wrong with a command whose program is no file, where it is written as a shell would read it,
    and what to do; None where nothing speaks for that.

    >>> misquoted(["echo hello world"])[0]
    "no program is called 'echo hello world': it looks like a whole command line in quotes"
    >>> misquoted(["trian"]) is None
    True
    """
    program = argv[0]
    if _ASSIGNMENT.match(program):
        name = program.partition("=")[0]
        return (
            f"{program!r} is no program: it looks like a variable set by a shell",
            f"set it with -e {name}=VALUE (in JSON: env), or run the whole line with --shell '...'",
        )
    if _LINE.search(program):
        return (
            f"no program is called {program!r}: it looks like a whole command line in quotes",
            "to run a command line use --shell '...' (in JSON: \"shell\": true); or leave the quotes out",
        )
    if program in _BUILTIN:
        return (
            f"{program!r} is a command of the shell, not a program",
            "use -C DIR for a directory and -e K=V for a variable; or run the whole line with --shell '...'",
        )
    return None
