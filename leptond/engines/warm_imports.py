"""The imports of a warm process, and what they depended on.

Loaded by a zygote that was started with the job's own interpreter, in the job's environment; uses the
standard library alone. :func:`prepare` imports, in this order,

- the modules of the setting ``warm_imports`` that are installed;
- what those load later, at the first step of a training: found by a small training in a throw-away process;
- what jobs of this environment have imported (*learned*), each package set aside until a job imports it
  (:mod:`leptond.engines.warm_units`).

All but the first is tried in a throw-away process before, once for each state of the installation.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib
import os
import sys
import time

from leptond.core import python_command
from leptond.engines import warm_effects, warm_environment, warm_files, warm_probe, warm_trial, warm_units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

OLDEST = (3, 10)
HUGE = 1 << 21
MADV_COLLAPSE = 25
INSTALLED = (".dist-info", ".egg-info", ".pth", ".egg-link")
UNKNOWN = "not tried"
NO_ROOM = "would take more memory than imports may"
NO_TIME = "would take more time than imports may"

reads = warm_environment.Reads()
"""Variables that the imports have read which every job has, with the values they found."""
later_reads = warm_environment.Reads()
written: dict[str, str | None] = {}
"""Variables that those imports have left changed; None: removed."""
variables: dict[str, str] = {}
"""Variables that C libraries may have read without any trace."""
process_name = ""
"""The name that the kernel gave this process."""
roots: list[str] = []
"""The modules of the setting ``warm_imports`` that are installed, without the standard library's."""
tops: set[str] = set()
"""Top-level names of the modules that every job has."""
cpus: set[int] = set()
park = warm_units.Park()


class Refused(Exception):
    """This environment cannot be kept warm: why."""


def prepare(imports: Sequence[str], output: int, plan: dict[str, Any]) -> dict[str, Any]:
    """Import those of `imports` that are installed, and what `plan` says is known to be of use. What is
    printed meanwhile arrives at the descriptor `output`, which is closed. Returns the report for the daemon:
    ``refused`` is why this process is of no use.

    The plan: ``fingerprint`` of the installation when the rest was found out; ``later``, names of modules
    that ``warm_imports`` load later, each with why it cannot be used (empty: it can); ``units``, a list of
    package, its modules, and why it cannot be used (null: to be tried); ``max_s`` and ``max_bytes`` of the
    learned ones. The report has ``fingerprint``, ``later`` and, for each unit, ``why``, ``seconds`` and
    ``bytes``."""
    report: dict[str, Any] = {}
    try:
        _prepare(imports, output, plan, report)
    except Refused as why:
        return {"refused": str(why)}
    except BaseException as failure:
        return {"refused": f"its imports fail: {type(failure).__name__}: {failure}"[:300]}
    return report


def _prepare(imports: Sequence[str], output: int, plan: dict[str, Any], report: dict[str, Any]) -> None:
    if sys.implementation.name != "cpython" or sys.version_info < OLDEST:
        raise Refused(f"its interpreter is older than {'.'.join(map(str, OLDEST))} or not CPython")
    fds, handlers, cwd = warm_effects.open_fds(), warm_effects.handlers(), os.getcwd()
    before = dict(os.environ)
    variables.update(python_command.unseen(before))
    _note_name()
    cpus.update(os.sched_getaffinity(0))
    with warm_environment.recording() as seen:
        found = [name for name in imports if _import_installed(name)]
    roots.extend(name for name in found if name.partition(".")[0] not in sys.stdlib_module_names)
    reads.add(seen)
    if reads.whole:
        raise Refused(f"{reads.whole} looks at the whole environment when it is imported")
    if not found:
        raise Refused(f"it has none of {', '.join(imports)}")
    report["reads"] = reads.as_json()
    for name in before.keys() | os.environ.keys():
        if before.get(name) != os.environ.get(name):
            written[name] = os.environ.get(name)
    report["fingerprint"] = fingerprint()
    same = plan.get("fingerprint") == report["fingerprint"]
    report["later"] = {} if plan.get("bare") else _import_later(plan["later"] if same else None)
    park.open()
    known = [(name, modules, why if same else None) for name, modules, why in plan.get("units", ())]
    report["units"] = _load_units(known, plan.get("max_s", 0.0), plan.get("max_bytes", 0))
    park.seal()
    more = warm_environment.Reads()
    for one in (later_reads, *(unit.reads for unit in park.units.values())):
        more.add(one)
    report["more_reads"] = more.as_json()
    report["live"] = list(sys.modules)
    report["layout"] = [id(sys.modules), id(dict), id(str), sys.getsizeof("") - 1]
    os.set_blocking(output, False)
    try:
        if os.read(output, 1):
            raise Refused("its imports print something")
    except BlockingIOError:
        pass
    os.close(output)
    if warm_effects.open_fds() != fds - {output}:
        raise Refused("its imports keep files open")
    if warm_effects.handlers() != handlers or os.getcwd() != cwd:
        raise Refused("its imports change how the process takes signals, or where it is")
    if warm_effects.threads_left():
        raise Refused("its imports start threads, which a fork would lose")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        raise Refused("its imports initialize CUDA")
    _note_files()
    tops.update(name.partition(".")[0] for name in sys.modules)
    gc.collect()
    _collapse()
    gc.freeze()  # collections in the children do not touch, and so do not copy, what is here


def _note_name() -> None:
    global process_name
    with open("/proc/self/comm") as file:
        process_name = file.read().rstrip("\n")


def _import_installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name.partition(".")[0]:
            raise
        return False
    return True


def fingerprint() -> str:
    """Return what changes with the interpreter and with each installation or removal of a package."""
    seen = [sys.version, sys.prefix]
    for directory in sys.path:
        try:
            names = os.listdir(directory)
        except OSError:
            continue  # it is not there, or a file
        paths = (os.path.join(directory, name) for name in sorted(names) if name.endswith(INSTALLED))
        seen.extend(f"{path} {os.stat(path).st_mtime_ns}" for path in paths)
    return hashlib.sha256("\n".join(seen).encode("utf-8", "surrogateescape")).hexdigest()


# -- what imports load later ------------------------------------------------------------------------------


def _import_later(known: dict[str, str] | None) -> dict[str, str]:
    """Import what a first training step would load. `known`: the names with the reason why one cannot be
    used, where that is known. Returns the same."""
    if "torch" not in sys.modules:
        return {}
    if known is None:
        names = _probe()
        tried = warm_trial.each(names, _try_later)
        known = {name: tried[name]["why"] for name in names}
    with warm_environment.recording() as seen:
        for name, why in known.items():
            if not why and name not in sys.modules:
                importlib.import_module(name)
    later_reads.add(seen)
    reads.add(seen)
    return known


def _probe() -> list[str]:
    """Return the modules that a small training loads, in their order."""

    def work(_: str) -> dict[str, Any]:
        before = set(sys.modules)
        warm_probe.train()
        new = [name for name in sys.modules if name not in before]
        return {"why": "", "names": [name for name in new if _has_file(name)]}

    result = warm_trial.each(["training"], work)["training"]
    return list(result.get("names", ()))


def _has_file(name: str) -> bool:
    spec = getattr(sys.modules[name], "__spec__", None)
    return spec is not None and spec.name == name and spec.has_location


def _try_later(name: str) -> dict[str, Any]:
    if name in sys.modules:
        return {"why": ""}
    before = warm_effects.State()
    with warm_environment.recording() as seen:
        try:
            importlib.import_module(name)
        except Exception as failure:
            return {"why": f"fails when it is imported: {type(failure).__name__}: {failure}"[:300]}
    why = warm_effects.harm(before, warm_effects.State())
    if not why and seen.whole:
        why = f"looks at the whole environment ({seen.whole})"
    return {"why": why}


# -- what jobs have imported ------------------------------------------------------------------------------


def _load_units(
    plan: Sequence[tuple[str, list[str], str | None]], max_s: float, max_bytes: int
) -> dict[str, dict[str, Any]]:
    """Load the units that can be used, and try those of which it is not known."""
    results: dict[str, dict[str, Any]] = {}
    modules_of = {name: modules for name, modules, why in plan if not why}
    untried = {name for name, _, why in plan if why is None}
    until, size = time.monotonic() + max_s, warm_units.resident()
    left = list(modules_of)
    while left:
        bad = {}
        if untried.intersection(left):
            tried = warm_trial.each(left, lambda name: park.load(name, modules_of[name]))
            bad = {name: result for name, result in tried.items() if result["why"]}
        for name in left:
            if name in bad:
                continue
            if time.monotonic() >= until:
                results[name] = {"why": NO_TIME}
            elif warm_units.resident() - size >= max_bytes:
                results[name] = {"why": NO_ROOM}
            else:
                results[name] = park.load(name, modules_of[name])
        # what only needs one that cannot be used may have met it by chance: it is tried once more without
        again = [name for name, result in bad.items() if result.get("needs")]
        results.update({name: result for name, result in bad.items() if name not in again})
        if len(again) == len(left):
            results.update(bad)
            again = []
        left = again
    return results


def _collapse() -> None:
    """Put the memory into huge pages, where the kernel does that (Linux 6.1): a fork copies a page table
    entry for each page, and with huge ones it takes a third of the time."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open("/proc/self/maps") as file:
        parts = [line.split() for line in file]
    for area, access, *_, name in ([*part[:2], part[5] if len(part) > 5 else ""] for part in parts):
        if access != "rw-p" or name not in ("", "[heap]"):
            continue
        begin, end = (int(word, 16) for word in area.split("-"))
        for start in range(-(-begin // HUGE) * HUGE, end - HUGE + 1, HUGE):
            madvise(start, HUGE, MADV_COLLAPSE)


def _note_files() -> None:
    """Note what would be read anew in a cold start: the files of all modules, the directories on their path,
    what configures the interpreter."""
    found = {sys.executable, os.path.join(sys.prefix, "pyvenv.cfg")}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(path, str) and os.path.isabs(path):
            found.add(path)
    for directory in sys.path:
        if os.path.isdir(directory):
            found.add(directory)
            found.update(
                os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".pth")
            )
    warm_files.note(found, [path for unit in park.units.values() for path in unit.files])
