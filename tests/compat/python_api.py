"""Signatures of what users may import: ``python -m tests.compat.python_api [SNAPSHOT]`` prints them as
JSON. With a snapshot, names that it has and that still can be imported are described as well, wherever they
are defined now."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import re
import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

IMPORTED = (
    "leptond",
    "leptond.job",
    "leptond.call",
    "leptond.client",
    "leptond.demo.training",
    "leptond.integrations",
    "leptond.integrations.submitit",
    "leptond.train",
    "leptond.train.checkpoint",
    "leptond.train.costs",
    "leptond.train.gpt",
    "leptond.train.loop",
    "leptond.train.measure",
    "leptond.train.parallel",
    "leptond.train.planning",
    "leptond.train.profiling",
    "leptond.train.schedule",
    "leptond.train.sharded",
    "leptond.train.examples.char_lm",
    "leptond.train.examples.small_gpt",
)
READ = (
    "leptond.integrations.hf",
    "leptond.integrations.lightning",
    "leptond.integrations.mlflow",
    "leptond.train.examples.digits",
    "leptond.train.examples.finetune_hf",
    "leptond.train.examples.lightning_digits",
    "leptond.train.examples.sweep",
)
"""Modules that import frameworks which may not be there: their text is read instead."""
ERRORS = ("ApiError", "BadTarget", "ClientError", "Interrupted", "Unreachable")
"""Of `leptond.client`, which was a module with much else in 0.4.0, what a user has a use for: the errors
that the clients raise."""
PLAIN = (int, float, str, tuple)
QUALIFIED = re.compile(r"\b(?:[A-Za-z_]\w*\.)+([A-Z]\w*)")
"""A type with the module that it is named by: types may move, what they are may not change."""


def collect(known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Public names and their signatures, by module."""
    known = known or {}
    return {name: _imported(import_module(name), known.get(name, {})) for name in IMPORTED} | {
        name: _read(name) for name in READ
    }


def _imported(module: ModuleType, known: dict[str, Any]) -> dict[str, Any]:
    names = {name for name in known if hasattr(module, name)}
    if module.__name__ == "leptond.client":
        names |= {name for name in ERRORS if hasattr(module, name)}
    elif hasattr(module, "__all__"):
        names |= set(module.__all__)
    else:
        names |= {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        }
        names |= {name for name, value in vars(module).items() if name.isupper() and type(value) in PLAIN}
    names.discard("__version__")
    found = {name: _describe(getattr(module, name), known.get(name)) for name in sorted(names)}
    # `leptond.job.resume` and its like are answered by the module when they are asked for
    asked_for = vars(module).get("__annotations__", {}) if "__getattr__" in vars(module) else {}
    return found | {name: str(kind) for name, kind in asked_for.items() if name[0] != "_"}


def _describe(value: Any, known: Any) -> Any:
    if inspect.isclass(value):
        bases = {base.__name__ for base in value.__mro__[1:-1] if not base.__name__.startswith("_")}
        if isinstance(known, dict):
            bases &= set(known["bases"])  # a further base takes nothing away
        members = {
            name: _member(member)
            for name, member in inspect.getmembers_static(value)
            if not name.startswith("_") and _is_ours(value, name)
        }
        return {"": _made_by(value), "bases": sorted(bases - {"Generic"}), **members}
    return _signature(value) if callable(value) else repr(value)


def _made_by(cls: type) -> str:
    """The signature of the constructor; of an exception only where it has one of its own, because what
    `inspect` says of the built-in one depends on the version of Python."""
    own = any("__init__" in vars(base) for base in cls.__mro__ if base.__module__.startswith("leptond"))
    return _signature(cls) if own or not issubclass(cls, BaseException) else "inherited"


def _is_ours(owner: type, name: str) -> bool:
    definers = [cls for cls in owner.__mro__ if name in vars(cls)]
    return bool(definers) and definers[0].__module__.startswith("leptond")


def _member(member: Any) -> str:
    if isinstance(member, property):
        return "property"
    if isinstance(member, staticmethod | classmethod):
        return f"{type(member).__name__} {_signature(member.__func__)}"
    return _signature(member) if inspect.isfunction(member) else "attribute"


def _signature(value: Any) -> str:
    with contextlib.suppress(TypeError, ValueError):
        return QUALIFIED.sub(r"\1", str(inspect.signature(value)))
    return type(value).__name__


def _read(name: str) -> dict[str, Any]:
    spec = util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    found: dict[str, Any] = {}
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found[node.name] = _header(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = {"bases": [ast.unparse(base) for base in node.bases]} | {
                item.name: _header(item)
                for item in node.body
                if isinstance(item, ast.FunctionDef) and (item.name == "__init__" or item.name[0] != "_")
            }
    return found


def _header(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


if __name__ == "__main__":
    print(json.dumps(collect(json.loads(Path(sys.argv[1]).read_text()) if sys.argv[1:] else None)))
