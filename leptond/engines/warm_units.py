"""Learned imports, kept aside until a job wants them.

Loaded by a zygote that runs in the job's interpreter; uses the standard library alone. A unit is a top-level
package with the modules of it that jobs have used, imported before the fork and taken out of ``sys.modules``
again, with its registrations in the process undone. When a job imports one of these modules, the finder of
its directory hands out what is there already, together with all units that it depends on.

A job that would not have had the same imports (variables, files, what lies before them on the path) is not
started from here. Where something changes between its start and its import, the modules are imported in the
ordinary way, if that can be done twice in a process."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
import sys
import threading
import time
from importlib.machinery import ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader

from leptond.engines import warm_effects, warm_environment, warm_looks
from leptond.engines.warm_files import file_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
DRAWS = "draws random numbers"
"""As in :data:`leptond.engines.warm_effects.FIXED`: no harm where nobody has seeded them."""


class Unit:
    """A package and its modules, set aside. `needs` are the units whose modules its import has used."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "parked"  # or "live": a job has it; "dead": it does not fit this job
        self.modules: dict[str, Any] = {}
        self.specs: dict[str, Any] = {}
        self.needs: list[Unit] = []
        self.reads = warm_environment.Reads()
        self.effects: warm_effects.Effects | None = None
        self.files: dict[str, object] = {}
        self.looks: warm_looks.Looks | None = None
        self.directories: list[tuple[Any, str, str]] = []
        self.draws = 0
        """How many numbers of 32 bits it draws from the module `random`."""

    def difference(self, env: Mapping[str, str], *, files: bool, changed: bool) -> str:
        """Return what its import would find different now, as the rest of a sentence; empty: nothing."""
        looks = self.looks
        assert looks is not None
        name = self.reads.difference(env)
        if name:
            return f"{name} is different"
        for name in looks.beside:
            if warm_looks.is_beside(name):
                return f"there is a file {name}"
        for path, seen in looks.outside.items():
            if warm_looks.outside_state(path) != seen:
                return f"{path} has changed"
        for path in self.watched(changed) if files else ():
            if file_state(path) != self.files[path]:
                return f"{path} has changed"
        return ""

    def watched(self, changed: bool) -> list[str]:
        """Return the files to look at before its use: all of them where something in their directories has
        changed, else those that an installation never leaves as they are."""
        tops = (name for name in self.modules if "." not in name)
        first = {getattr(self.specs[name], "origin", None) for name in tops}
        return [path for path in self.files if changed or path in first]

    def closure(self) -> Iterator[Unit]:
        """Return this unit after all that it needs."""
        yield from self.needs
        yield self


class Park:
    """The units of this process, in the order of their imports."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        self.owner: dict[str, Unit] = {}
        self.bad: dict[str, str] = {}
        """Units that must not be used, with the reason."""
        self.changed = True
        """Something in the directories of the units may have changed by the start of the job."""
        self._lock = threading.RLock()
        self._live: set[str] = set()
        self._path: list[str] = []
        self._meta_path: list[Any] = []
        self._woken: list[Unit] = []
        self._reads = warm_environment.Reads()
        self._beside: set[str] = set()
        self._outside: dict[str, object] = {}
        self._tops: set[str] = set()
        self._all_files: dict[str, object] = {}
        self.preparing = True

    def open(self) -> None:
        """Take what has been imported so far as what every job has."""
        importlib.import_module("logging")  # it holds what others register
        importlib.import_module("random")
        self._live = {name.partition(".")[0] for name in sys.modules}
        self._path, self._meta_path = list(sys.path), list(sys.meta_path)
        for directory in self._path:
            self.watch(directory)

    def has(self, name: str) -> bool:
        """Return True if the top-level package `name` is there already, live or set aside."""
        return name in self._live or name in self.owner

    # -- in the zygote --------------------------------------------------------------------------------

    def load(self, name: str, modules: Sequence[str]) -> dict[str, Any]:
        """Import a unit and set it aside. Returns ``why`` it must not be used (empty: it may), and what it
        took: ``seconds``, ``bytes``; ``needs`` is a unit that must not be used and is the only reason."""
        unit = Unit(name)
        known = set(sys.modules)
        exits = warm_effects.Registrations()
        self._woken = []
        if all(one in self.owner or one in sys.modules for one in modules):
            why = self._bad_of(modules)
            return {"why": why, "needs": why, "seconds": 0.0, "bytes": 0}
        if name in self.owner:
            self.wake(self.owner[name])
        before, began, size = warm_effects.State(), time.monotonic(), resident()
        printed = _printed()
        with warm_looks.Looks() as looks, warm_environment.recording() as reads, exits.watching():
            why = _import(name, modules)
        took, grown = time.monotonic() - began, resident() - size
        after = warm_effects.State()
        unit.draws = _drawn(before.fixed[DRAWS], after.fixed[DRAWS])
        if unit.draws > 0:  # the job draws as many
            before.fixed[DRAWS] = None
        why = why or warm_effects.harm(before, after)
        if not why and reads.whole:
            where = "" if reads.whole.partition(".")[0] == name else f" ({reads.whole})"
            why = f"looks at the whole environment{where}"
        if not why and _printed() != printed:
            why = "prints something"
        unit.reads, unit.looks, unit.needs = reads, looks, list(self._woken)
        needs = next((one.name for one in unit.needs if one.name in self.bad), "") if not why else ""
        if needs:
            why = f"needs {needs}, which {self.bad[needs]}"
        unit.effects = warm_effects.Effects(before, after, exits)
        self._set_aside(unit, known)
        cannot, unit.directories = looks.finish(unit.modules)
        why = why or cannot
        if why:
            self.bad[name] = why
        return {"why": why, "needs": needs, "seconds": round(took, 3), "bytes": max(0, grown)}

    def _bad_of(self, modules: Sequence[str]) -> str:
        """Return why the unit of one of these modules must not be used."""
        owners = {self.owner[one].name for one in modules if one in self.owner}
        return next((f"needs {name}, which {self.bad[name]}" for name in owners if name in self.bad), "")

    def _set_aside(self, unit: Unit, known: set[str]) -> None:
        for name in [name for name in sys.modules if name not in known]:
            module = sys.modules[name]
            spec = getattr(module, "__spec__", None)
            if name in self.owner or name.partition(".")[0] in self._live:
                continue
            if spec is not None and spec.origin in ("built-in", "frozen"):
                self._live.add(name)
                continue
            unit.modules[name], unit.specs[name] = module, spec
            self.owner[name] = unit
            origin = getattr(spec, "origin", None)
            if isinstance(origin, str) and os.path.isabs(origin):
                unit.files[origin] = file_state(origin)
        self.units[unit.name] = unit
        for name in unit.modules:
            del sys.modules[name]
        if unit.effects is not None:
            unit.effects.undo()
        for one in reversed(self._woken):  # what it needs was taken out for it
            self._put_back(one)
        self._woken = []
        for directory in {os.path.dirname(path) for path in unit.files}:
            # that of a package is found from the one above
            for place in (directory, os.path.dirname(directory)):
                self.watch(place)

    def _put_back(self, unit: Unit) -> None:
        for name in unit.modules:
            sys.modules.pop(name, None)
        if unit.effects is not None:
            unit.effects.undo()
        unit.state = "parked"

    def watch(self, directory: str) -> None:
        """Look first at what is set aside when something is imported from this directory."""
        plain = sys.path_importer_cache.get(directory)
        if type(plain) is FileFinder:
            finder = ParkedFinder(plain.path)
            finder._loaders = plain._loaders  # type: ignore[attr-defined]
            finder.park = self
            sys.path_importer_cache[directory] = finder

    # -- in the job -----------------------------------------------------------------------------------

    def offers(self, spec: ModuleSpec) -> bool:
        """Return True if what is set aside under this name is what an import would find at `spec`, and fits
        the job as it is now."""
        unit = self.owner[spec.name]
        module_spec = unit.specs.get(spec.name)
        if module_spec is None or module_spec.origin != spec.origin or unit.state == "live":
            return False
        with self._lock:
            if unit.state == "parked" and not self.preparing:
                self._compare(unit, spec.name)
            # an extension module cannot be loaded twice: the one that is there serves the others as well
            return unit.state == "parked" or isinstance(module_spec.loader, ExtensionFileLoader)

    def _compare(self, unit: Unit, name: str) -> None:
        """Find out if the unit, with all that it needs, is what an import of its module `name` would give
        now; else it is dead."""
        waiting = [one for one in unit.closure() if one.state != "live"]
        if any(one.state == "dead" or _is_loaded(one) for one in waiting):
            unit.state = "dead"
            return
        first = self._first()
        reasons = (self._why_not(one, first, name) for one in waiting)
        why = next((reason for reason in reasons if reason), "")
        if why and not any(_is_extension(spec) for one in waiting for spec in one.specs.values()):
            unit.state = "dead"
        elif why:
            # a second import of what is compiled may fail: the job gets the first, and is told
            sys.stderr.write(
                f"leptond: {unit.name} had been imported before this job started, and since then {why}; "
                "submit with --cold if it matters\n"
            )

    def _why_not(self, unit: Unit, first: Sequence[Any], asked: str) -> str:
        where = _hidden_by(unit, first, asked)
        if where:
            return f"{where} comes first"
        return unit.difference(os.environ, files=True, changed=self.changed)

    def _first(self) -> list[Any]:
        """Return the finders that the job has put before those of the installation."""
        ours = [entry for one in self.units.values() if one.state == "live" for entry in _finders_of(one)]
        others = [entry for entry in sys.meta_path if entry not in self._meta_path and entry not in ours]
        before, rest = [], list(sys.path)
        while rest and list(dict.fromkeys(entry for entry in rest if entry in self._path)) != self._path:
            before.append(rest.pop(0))
        before.extend(entry for entry in rest if entry not in self._path)
        return [*others, *(_finder(entry) for entry in before)]

    def seal(self) -> None:
        """Draw together what all units depend on, so that the start of a job takes no time for each."""
        for unit in self.units.values():
            assert unit.looks is not None
            self._reads.add(unit.reads)
            self._beside.update(unit.looks.beside)
            self._outside.update(unit.looks.outside)
            self._tops.update(name for name in unit.modules if "." not in name)
            self._all_files.update(unit.files)

    def cold_reason(self, env: Mapping[str, str], directory: str, names: Collection[str]) -> str:
        """Return why a job with this environment, whose first modules are in this directory with these names,
        would not have had the same imports; empty: it would."""
        if (
            not self._reads.difference(env)
            and not any(map(warm_looks.is_beside, self._beside))
            and all(warm_looks.outside_state(path) == seen for path, seen in self._outside.items())
            and self._tops.isdisjoint({name.partition(".")[0] for name in names})
            and not (self.changed and any(file_state(path) != seen for path, seen in self._all_files.items()))
        ):
            return ""
        first = [_finder(directory)]
        for unit in self.units.values():
            why = unit.difference(env, files=self.changed, changed=self.changed)
            if why:
                return f"{unit.name} was imported before, and {why}"
            where = _hidden_by(unit, first)
            if where:
                return f"{where} hides {unit.name}, which was imported before"
        return ""

    def wake(self, unit: Unit) -> None:
        """Give the job a unit and all that it needs, as if it had imported them now."""
        with self._lock:
            for one in unit.closure():
                if one.state == "parked":
                    one.state = "live"
                    for name, module in one.modules.items():
                        if name in sys.modules and _is_namespace(name, module):
                            for key, value in vars(module).items():
                                vars(sys.modules[name]).setdefault(key, value)
                        else:
                            sys.modules[name] = module
                    warm_looks.put_directory(one.directories)
                    _draw(one.draws)
                    if one.looks is not None and not self.preparing:
                        one.looks.warn_again()
                    if one.effects is not None:
                        one.effects.redo()
                    self._woken.append(one)

    def module(self, name: str) -> Any:
        """Return a module that is set aside."""
        return self.owner[name].modules[name]

    def give(self, name: str, module: Any) -> None:
        """Finish the import of a module that :meth:`offers` has offered."""
        unit = self.owner[name]
        with contextlib.suppress(AttributeError):
            module.__spec__ = unit.specs[name]
        if unit.state == "parked":
            self.wake(unit)


def _finders_of(unit: Unit) -> list[Any]:
    if unit.effects is None:
        return []
    before, after = unit.effects.before.lists["meta_path"], unit.effects.after.lists["meta_path"]
    return [one for one in after if one not in before]


def _hidden_by(unit: Unit, first: Sequence[Any], asked: str = "") -> str:
    """Return what one of these finders finds in the place of a package of the unit; empty: nothing. They have
    been `asked` for one already."""
    for name in unit.modules:
        for finder in first if "." not in name and name != asked else ():
            spec = _found(finder, name)
            if spec is not None and spec.origin != getattr(unit.specs[name], "origin", None):
                return str(spec.origin or name)
    return ""


def _is_loaded(unit: Unit) -> bool:
    """Return True if the job has modules of other contents under the names of this unit."""
    return any(name in sys.modules and not _is_namespace(name, one) for name, one in unit.modules.items())


def _is_extension(spec: Any) -> bool:
    return isinstance(getattr(spec, "loader", None), ExtensionFileLoader)


def _drawn(before: Any, after: Any) -> int:
    """Return how many numbers of 32 bits lie between two states of the module `random`; -1: it was seeded."""
    if before is None or before == after:
        return 0
    old, new = before[1], after[1]
    if old[:-1] == new[:-1]:
        return int(new[-1] - old[-1])
    random: Any = sys.modules["random"]
    twin = random.Random()
    twin.setstate(before)
    for count in range(1, 10_000):
        twin.getrandbits(32)
        if twin.getstate() == after:
            return count
    return -1


def _draw(count: int) -> None:
    for _ in range(count):
        sys.modules["random"].getrandbits(32)


def _found(finder: Any, top: str) -> ModuleSpec | None:
    """Return what a finder finds for a package. A directory without code is nothing: it does not come
    first."""
    if isinstance(finder, ParkedFinder):
        spec = FileFinder.find_spec(finder, top)
    elif hasattr(finder, "find_spec"):
        find: Any = finder.find_spec
        spec = find(top, None)
    else:
        return None
    return spec if spec is not None and spec.loader is not None else None


def _is_namespace(name: str, module: Any) -> bool:
    """Return True if the module that is loaded under this name is the same namespace package."""
    here = sys.modules[name]
    if here is module:
        return True
    paths = [getattr(one, "__path__", None) for one in (here, module)]
    # only the places: to go through such a path is to look for the package anew
    places = [getattr(path, "_path", None) for path in paths if type(path).__name__ == "_NamespacePath"]
    return len(places) == 2 and places[0] == places[1]


def _finder(entry: str) -> Any:
    """Return what finds modules in a directory that the job has put on the path."""
    path = entry or os.getcwd()
    if path not in sys.path_importer_cache:
        importlib.machinery.PathFinder.find_spec("leptond_looks_at_this_directory", [path])
    return sys.path_importer_cache.get(path)


def _import(name: str, modules: Sequence[str]) -> str:
    """Import a package and modules of it. Returns why that fails."""
    for one in modules:
        if one in sys.modules:
            continue
        try:
            __import__(one)  # no frame of importlib between: a warning may be about its caller
        except ModuleNotFoundError as missing:
            if one == name:
                return f"is not there: {missing}"
        except Exception as failure:
            return f"fails when it is imported: {type(failure).__name__}: {failure}"[:300]
    return ""


def _printed() -> int:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return os.fstat(1).st_size


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


class ParkedFinder(FileFinder):
    """Finds modules in a directory, and hands out those that are set aside."""

    park: Park

    def find_spec(self, fullname: str, target: Any = None) -> ModuleSpec | None:
        """Find a module."""
        spec = super().find_spec(fullname, target)
        if spec is None or spec.loader is None or spec.origin is None:
            return spec  # nothing, or a part of a namespace
        if fullname in self.park.owner and self.park.offers(spec):
            kind = ParkedExtension if isinstance(spec.loader, ExtensionFileLoader) else ParkedSource
            loader = kind(fullname, spec.origin)
            loader.park = self.park
            spec.loader = loader
        return spec


class ParkedSource(SourceFileLoader):
    """Loads a module of Python code by taking the one that is set aside."""

    park: Park

    def create_module(self, spec: ModuleSpec) -> Any:
        """Return the module."""
        return self.park.module(spec.name)

    def exec_module(self, module: Any) -> None:
        """Give it to the job. It ran when it was set aside."""
        self.park.give(self.name, module)


class ParkedExtension(ExtensionFileLoader):
    """Loads an extension module by taking the one that is set aside."""

    park: Park

    def create_module(self, spec: ModuleSpec) -> Any:
        """Return the module."""
        return self.park.module(spec.name)

    def exec_module(self, module: Any) -> None:
        """Give it to the job. It ran when it was set aside."""
        self.park.give(self.name, module)


for _kind, _plain in (
    (ParkedFinder, FileFinder),
    (ParkedSource, SourceFileLoader),
    (ParkedExtension, ExtensionFileLoader),
):
    # they do the work of these, and a repr shows them as these
    _kind.__name__, _kind.__qualname__, _kind.__module__ = (
        _plain.__name__,
        _plain.__qualname__,
        _plain.__module__,
    )
