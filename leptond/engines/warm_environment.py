"""The variables that imports have read: a warm process serves only jobs that would have read the same.

Loaded by a zygote that runs in the job's interpreter; uses the standard library alone. While
:func:`recording` lasts, ``os.environ`` notes each variable that is looked up. Code that goes through all of
them gets names that note what is asked of them: where each is only tested for its beginning (``if
name.startswith("TQDM_")``), the variables with that beginning are what has been read. Anything else that is
done with all of them counts as a look at the whole environment."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+\Z")
PLUMBING = (__file__, os.__file__, "<frozen os>", "_collections_abc.py", "<frozen _collections_abc>")


class Reads:
    """What imports have read: `names` with the values they found (None: unset), and `prefixes`, with all
    variables that begin so. `whole` names the module that looked at all of them; empty: none did."""

    def __init__(self) -> None:
        self.names: dict[str, str | None] = {}
        self.prefixes: dict[str, dict[str, str]] = {}
        self.whole = ""
        self.touched: set[str] = set()

    def add(self, other: Reads) -> None:
        """Take in what others have read."""
        self.names.update(other.names)
        self.prefixes.update(other.prefixes)
        self.whole = self.whole or other.whole

    def has(self, name: str) -> bool:
        """Return True if this variable was read."""
        return name in self.names or name.startswith(tuple(self.prefixes))

    def difference(self, env: Mapping[str, str]) -> str:
        """Return the first variable (or ``PREFIX*``) that `env` has another value of; empty: there is none.

        >>> seen = Reads(); seen.names["HOME"] = "/root"; seen.prefixes["TQDM_"] = {}
        >>> seen.difference({"HOME": "/root"}), seen.difference({"HOME": "/root", "TQDM_DISABLE": "1"})
        ('', 'TQDM_*')
        """
        for name, value in self.names.items():
            if env.get(name) != value:
                return name
        for prefix, found in self.prefixes.items():
            if with_prefix(env, prefix) != found:
                return f"{prefix}*"
        return ""

    def as_json(self) -> dict[str, Any]:
        """Return what the daemon gets to know."""
        return {"names": self.names, "prefixes": self.prefixes}


def with_prefix(env: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the variables whose names begin so."""
    return {name: value for name, value in env.items() if name.startswith(prefix)}


class Name(str):
    """A variable's name that notes what is asked of it, for code that goes through all of them."""

    state = ""  # "", "matched" (it was what was looked for) or "other"
    seen: Seen

    def startswith(self, prefix: Any, *limits: Any) -> bool:
        found = str.startswith(self, prefix, *limits)
        if limits:
            self.seen.give_up()
        for one in prefix if isinstance(prefix, tuple) else (prefix,):
            self.seen.prefix(one)
        self.state = "matched" if found or self.state == "matched" else "other"
        return found

    def __eq__(self, other: object) -> bool:
        equal = str.__eq__(self, other)
        if isinstance(other, str) and type(other) is not Name:
            self.seen.name(str(other))
            self.state = "matched" if equal is True or self.state == "matched" else "other"
        return equal

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        if self.state == "":
            self.seen.copied = True
        elif self.state == "other":
            self.seen.give_up()  # it was sorted out, and is used all the same
        return str.__hash__(self)

    def __del__(self) -> None:
        self.seen.alive -= 1
        if self.state == "":
            self.seen.give_up()  # nothing was asked of it: it went somewhere as it is


def _noting(name: str) -> Any:
    plain = getattr(str, name)

    def call(self: Name, *args: Any, **more: Any) -> Any:
        if self.state != "matched":
            self.seen.give_up()
        return plain(self, *args, **more)

    return call


_OWN = {
    "__class__",
    "__new__",
    "__init__",
    "__getattribute__",
    "__setattr__",
    "__init_subclass__",
    "maketrans",
    "__doc__",
}
_OWN |= {"__subclasshook__", "__getnewargs__", "__sizeof__"}
for _name in set(vars(str)) | {"__reduce_ex__", "__format__", "__str__"}:
    if _name not in vars(Name) and _name not in _OWN and callable(getattr(str, _name)):
        setattr(Name, _name, _noting(_name))


class Seen:
    """One walk through all variables, by the module `who`: what became of the names. `constants` are words in
    its code that may name variables."""

    def __init__(self, reads: Reads, env: Mapping[str, str], who: str, constants: set[str]) -> None:
        self._reads, self._env, self._who, self._constants = reads, env, who, constants
        self.copied = False
        self.alive = 0

    def give(self, name: str) -> Name:
        """Return a name that notes what is asked of it."""
        one = Name(name)
        one.seen = self
        self.alive += 1
        return one

    def prefix(self, prefix: str) -> None:
        """Note that names were tested for this beginning."""
        if not prefix:
            self.give_up()
        self._reads.prefixes.setdefault(str(prefix), with_prefix(self._env, prefix))

    def name(self, name: str) -> None:
        """Note that names were compared with this one."""
        self._reads.names.setdefault(name, self._env.get(name))

    def give_up(self) -> None:
        """Count it as a look at the whole environment."""
        self._reads.whole = self._reads.whole or self._who

    def finish(self) -> None:
        """Draw the conclusions when the import is over."""
        if self.alive:
            self.give_up()  # the names are kept, for whatever use
        elif self.copied:
            # a copy can be asked for names that are not in it, which leaves no trace
            for name in self._constants:
                self.name(name)


@contextlib.contextmanager
def recording() -> Iterator[Reads]:
    """Have ``os.environ`` note what is read of it, before it is written."""
    reads, walks = Reads(), []
    plain = type(os.environ)
    env = dict(os.environ)

    class Recording(plain):  # type: ignore[misc, valid-type]
        def __getitem__(self, name: str) -> str:
            if type(name) is Name:  # a walk through all of them
                return super().__getitem__(str.__str__(name))  # type: ignore[no-any-return]
            if name not in reads.touched:
                reads.names.setdefault(name, env.get(name))
            return super().__getitem__(name)  # type: ignore[no-any-return]

        def __setitem__(self, name: str, value: str) -> None:
            reads.touched.add(name)
            super().__setitem__(name, value)

        def __delitem__(self, name: str) -> None:
            reads.touched.add(name)
            super().__delitem__(name)

        def __iter__(self) -> Iterator[str]:
            who, constants = _caller()
            seen = Seen(reads, env, who, constants)
            walks.append(seen)
            for name in super().__iter__():
                yield seen.give(name)

    Recording.__name__ = Recording.__qualname__ = plain.__name__
    os.environ.__class__ = Recording
    try:
        yield reads
    finally:
        os.environ.__class__ = plain
        if any(seen.alive for seen in walks):
            gc.collect()
        for seen in walks:
            seen.finish()


def _caller() -> tuple[str, set[str]]:
    """Return the module whose code goes through the environment, and the words in it that may be names."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(PLUMBING):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "?")), set(_words(frame.f_code))


def _words(code: Any) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str) and VARIABLE.match(constant):
            yield constant
        elif isinstance(constant, type(code)):
            yield from _words(constant)
