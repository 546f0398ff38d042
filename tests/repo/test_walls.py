"""The walls of the house: which rooms may import from which. Arrows go down only, and there is no circle
between rooms, nor between the rooms within one."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

BASE = {"base"}
CORE = {"core", *BASE}
DEVICES = {"gpus", "config", *CORE}
MACHINE = {"store", "engines", "attempt_files", *DEVICES}

ALLOWED: Mapping[str, set[str]] = {
    # what runs inside jobs: the standard library only
    "job": set(),
    "call": set(),
    # the daemon's side, from the ground up
    "base": set(),
    "core": {"base"},
    "config": {"core", "base"},
    "schema": {"core"},
    "attempt_files": {"core", "base"},
    "gpus": {"config", "core", "base"},
    "store": {"attempt_files", "core", "base"},
    "engines": {"attempt_files", "config", "core", "base"},
    "services": {"schema", *MACHINE},
    "scheduling": {"services", *MACHINE},
    "recovery": {"scheduling", *MACHINE},
    "api": {"services", "schema", *MACHINE} - {"engines"},
    "daemon": {"recovery", "scheduling", "api", "services", *MACHINE},
    # the user's side
    "client": {"schema", "call", *CORE},
    "cli": {"client", "attempt_files", *CORE},
    # on top of both, and beside the way of a job
    "demo": {"client", "train", *CORE},
    "train": {"job"},
    "integrations": {"train", "job", "client", "schema", *CORE},
    "train.examples": {"integrations", "train", "job"},
    "docs_build": {"__main__", "cli", "api", "config", "core"},
    "__main__": {"daemon", "recovery", "demo", "store", *DEVICES},
    "leptond": {"client"},
}
"""What the modules of each room may import from, beside their own room and :mod:`leptond` itself (its
version)."""

ROOMS_WITHIN = (
    "api",
    "cli",
    "client",
    "core",
    "daemon",
    "engines",
    "recovery",
    "scheduling",
    "services",
    "store",
)
"""Rooms whose own folders and modules may not import in a circle."""


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in sorted((TOP / "leptond").rglob("*.py")):
        parts = path.relative_to(TOP).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of ours that a module imports anywhere in its text, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "leptond":
            assert node.level == 0
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "leptond"}
    return found - {name}


def room(module: str) -> str:
    """The room that a module stands in."""
    parts = module.split(".")
    if len(parts) == 1:
        return parts[0]
    return "train.examples" if parts[1:3] == ["train", "examples"] else parts[1]


IMPORTS = {name: imports(name) for name in MODULES}


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_room_imports_only_from_the_rooms_below_it(name: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        if room(module) == name
        for other in IMPORTS[module]
        if room(other) not in {name, "leptond", *ALLOWED[name]}
    ]
    assert not wrong


def test_every_module_stands_in_a_room() -> None:
    assert {room(module) for module in MODULES} == set(ALLOWED)


SQLITE_OUTSIDE_THE_STORE = {
    "leptond.cli.diagnosis.checks": "leptonctl must not import the store; it only asks for the version",
}


def test_only_the_store_knows_the_driver() -> None:
    """No SQL and no `sqlite3` elsewhere: callers hand functions of the store over and get StoreError."""
    found = set()
    for name, path in MODULES.items():
        if room(name) != "store":
            for node in ast.walk(ast.parse(path.read_text())):
                direct = isinstance(node, ast.Import) and any(one.name == "sqlite3" for one in node.names)
                of_it = isinstance(node, ast.ImportFrom) and node.module == "sqlite3"
                executes = isinstance(node, ast.Attribute) and node.attr in ("execute", "executescript")
                if direct or of_it or executes:
                    found.add(name)
    assert found == set(SQLITE_OUTSIDE_THE_STORE)


def test_the_allowed_arrows_have_no_circle() -> None:
    assert circle({name: below - {name} for name, below in ALLOWED.items()}) is None


@pytest.mark.parametrize("name", ROOMS_WITHIN)
def test_within_a_room_nothing_imports_in_a_circle(name: str) -> None:
    """Folders and loose modules of a room, taken as boxes."""
    arrows: dict[str, set[str]] = {}
    for module, others in IMPORTS.items():
        if room(module) == name:
            arrows.setdefault(box(module), set()).update(
                box(other) for other in others if room(other) == name and box(other) != box(module)
            )
    assert circle(arrows) is None


def test_no_module_imports_itself_by_a_way_around() -> None:
    assert circle(IMPORTS) is None


def test_a_folder_has_a_rule() -> None:
    """One sentence a folder says what belongs there."""
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{name} does not say what belongs there"


def box(module: str) -> str:
    """The folder of a room that a module stands in, or the module itself where it stands loose."""
    return ".".join(module.split(".")[:3])


def circle(arrows: Mapping[str, Iterable[str]]) -> list[str] | None:
    """A way that ends where it begins, if there is one."""
    done: set[str] = set()

    def walk(at: str, way: list[str]) -> list[str] | None:
        if at in way:
            return [*way[way.index(at) :], at]
        if at in done:
            return None
        for other in sorted(arrows.get(at, ())):
            found = walk(other, [*way, at])
            if found is not None:
                return found
        done.add(at)
        return None

    for start in sorted(arrows):
        found = walk(start, [])
        if found is not None:
            return found
    return None


def test_a_circle_is_found() -> None:
    assert circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert circle({"a": ["b", "c"], "b": ["c"]}) is None
