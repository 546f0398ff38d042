"""What jobs of an environment import in their first seconds, so that its next warm process has it. Pure. The
modules are read by :mod:`leptond.engines.import_record`, and tried by :mod:`leptond.engines.warm_imports`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
LONGEST_NAME = 200
MOST_PACKAGES = 600
MOST_MODULES = 20_000
"""Modules of all packages together."""
MORE = ".*"
"""After the name of a package: the unit of its modules that it does not import itself."""
ROOM = frozenset({"would take more memory than imports may", "would take more time than imports may"})
"""Reasons that are not those of a package: it may find room the next time."""
ABSENT = "is not there"
"""The beginning of the reason of a package that this interpreter does not find: a module of a job's own."""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A package that jobs have imported: its modules, in the order of their imports; why it cannot be
    imported before a fork (empty: it can; None: not tried), and why those of its modules cannot that it does
    not import itself; the jobs that were seen with it; what it takes."""

    modules: list[str]
    why: str | None = None
    more_why: str | None = None
    jobs: int = 1
    seconds: float = 0.0
    size_bytes: int = 0


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the imports of one interpreter. `fingerprint` is that of its installation when
    `later` (what torch loads at a first step, with why a module cannot be used) and the reasons were found
    out. `packages` stand in the order in which they are imported: what others need comes first. `blocked` is
    why only the first imports are made; empty: all are."""

    fingerprint: str = ""
    later: dict[str, str] = {}
    packages: dict[str, Package] = {}
    blocked: str = ""


class WarmEnvironment(msgspec.Struct, kw_only=True):
    """An interpreter that jobs come with, in one environment. `state`: `warm`, `preparing`, or `cold` with
    `why`. `imports`: the modules that its warm process has for every job; `learned`: packages that jobs have
    imported and that it has ready; `untried` those that its next process will try; `left_out`: packages that
    cannot be imported before a fork, with the reason. `misfits`: commands that would have had other imports,
    with the reason. `unseen`: why imports of its jobs cannot be seen."""

    python: str
    state: str
    why: str | None
    pids: list[int]
    bytes: int
    prepared_in_s: float | None
    imports: int
    learned: list[str]
    untried: list[str]
    left_out: dict[str, str]
    misfits: dict[str, str]
    unseen: str | None


def plan(learned: Learned, *, bare: bool, learn: bool, max_s: float, max_bytes: int) -> dict[str, Any]:
    """Return what a warm process is told (see :func:`leptond.engines.warm_imports.prepare`). A `bare` one
    makes only the first imports; without `learn` what jobs have imported is left out."""
    if bare or learned.blocked:
        return {"bare": True}
    if not learn:
        return {"fingerprint": learned.fingerprint, "later": learned.later}
    return {
        "fingerprint": learned.fingerprint,
        "later": learned.later,
        "units": [
            *([name, [name], one.why] for name, one in learned.packages.items()),
            *(
                [f"{name}{MORE}", one.modules, one.more_why]
                for name, one in learned.packages.items()
                if len(one.modules) > 1
            ),
        ],
        "max_s": max_s,
        "max_bytes": max_bytes,
    }


def with_report(learned: Learned, report: Mapping[str, Any]) -> Learned:
    """Return what is known after the report of a warm process. Of another state of the installation nothing
    that was found out holds any more."""
    same = report["fingerprint"] == learned.fingerprint
    if learned.blocked and (same or not learned.fingerprint):
        return msgspec.structs.replace(learned, fingerprint=report["fingerprint"])
    packages = {}
    for name, one in learned.packages.items():
        found = [report["units"].get(unit) for unit in (name, f"{name}{MORE}")]
        old = (one.why, one.more_why) if same else (None, None)
        why, more_why = (
            before if new is None or new["why"] in ROOM else new["why"]
            for before, new in zip(old, found, strict=True)
        )
        took = [new for new in found if new is not None]
        packages[name] = msgspec.structs.replace(
            one,
            why=why,
            more_why=more_why,
            seconds=sum(new.get("seconds", 0.0) for new in took) if took else one.seconds,
            size_bytes=sum(new.get("bytes", 0) for new in took) if took else one.size_bytes,
        )
    return Learned(fingerprint=report["fingerprint"], later=report["later"], packages=packages)


def with_imports(learned: Learned, names: Iterable[str], hidden: Collection[str]) -> tuple[Learned, bool]:
    """Return what is known after a look at a job that had imported `names`, in this order, beyond what it
    started with, and if there is anything new to import. `hidden` are top-level names that the job's own
    directory has, or could have: they are never learned."""
    seen: dict[str, list[str]] = {}
    for name in names:
        top = name.partition(".")[0]
        if len(name) <= LONGEST_NAME and NAME.match(name) and top not in hidden and not top.startswith("__"):
            seen.setdefault(top, []).append(name)
            if name == top:  # a module takes its place in the table when it is complete: after what it needs
                seen[top] = seen.pop(top)
    packages = dict(learned.packages)
    news = False
    order = list(packages)
    place = 0
    count = sum(len(one.modules) for one in packages.values())
    for top, modules in seen.items():
        known = packages.get(top)
        if known is None:
            if len(packages) >= MOST_PACKAGES or count + len(modules) > MOST_MODULES:
                continue
            packages[top] = Package(modules=modules)
            order.insert(place, top)
            count += len(modules)
            news = True
        else:
            more = [name for name in modules if name not in known.modules] if not known.why else []
            more = more if count + len(more) <= MOST_MODULES else []
            packages[top] = msgspec.structs.replace(
                known,
                modules=[*known.modules, *more],
                more_why=None if more else known.more_why,
                jobs=known.jobs + 1,
            )
            count += len(more)
            news = news or bool(more)
        place = order.index(top) + 1
    return msgspec.structs.replace(learned, packages={top: packages[top] for top in order}), news


def reads_differ(reads: Mapping[str, Any], env: Mapping[str, str]) -> str:
    """Return the first variable, or ``PREFIX*``, of what imports have read that `env` has another value of;
    empty: there is none.

    >>> reads_differ({"names": {"HF_HOME": None}, "prefixes": {"TQDM_": {}}}, {"TQDM_DISABLE": "1"})
    'TQDM_*'
    """
    for name, value in reads["names"].items():
        if env.get(name) != value:
            return str(name)
    for prefix, found in reads["prefixes"].items():
        if {name: value for name, value in env.items() if name.startswith(prefix)} != found:
            return f"{prefix}*"
    return ""


def own_modules(entries: Sequence[tuple[str, bool]]) -> set[str]:
    """Return the top-level names that a directory has modules of. `entries` are its names, each with whether
    it is a directory with code (an ``__init__.py``).

    >>> sorted(own_modules([("train.py", False), ("wandb", False), ("data", True), ("a.abi3.so", False)]))
    ['a', 'data', 'train']
    """
    return {
        name.partition(".")[0]
        for name, is_package in entries
        if is_package or name.endswith((".py", ".so", ".pyc"))
    }
