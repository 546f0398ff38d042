"""The boxes of the package and the rule of each folder, made from the source for docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ASIDE = frozenset({"docs_build", "demo", "integrations", "train", "__main__"})
"""Boxes that the picture leaves out: they are on no job's way."""

Arrows = Mapping[str, frozenset[str]]


def boxes() -> str:
    """The boxes and what they import, as a mermaid flowchart. An arrow that follows from others is left
    out."""
    arrows = reduced(imports(PACKAGE))
    shown = sorted({*arrows} - ASIDE)
    lines = ["flowchart TD"]
    for name in shown:
        label = f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"
        lines.append(f'    box_{name}["{label}"]')  # a bare name may be a word of mermaid's
    for name in shown:
        lines += [f"    box_{name} --> box_{other}" for other in sorted(arrows[name] - ASIDE)]
    return "\n".join(lines)


def rules() -> str:
    """A table of all folders with the sentence that says what belongs there."""
    lines = ["| folder | what belongs there |", "|---|---|"]
    for path in sorted(PACKAGE.rglob("__init__.py")):
        name = path.parent.relative_to(PACKAGE).as_posix()
        if name != ".":
            lines.append(f"| `{name}/` | {first_sentence(path)} |")
    return "\n".join(lines)


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, in Markdown. Raises ValueError where there is none."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    if not docstring:
        raise ValueError(f"{path} does not say what belongs there")
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", " ".join(docstring.split()).replace("``", "`"))
    found = re.match(r"(.*?\.)(?: [A-Z`]|$)", text)
    return found[1] if found else text


def imports(package: Path) -> dict[str, frozenset[str]]:
    """The boxes (folders and modules at the top of a package) that each box imports from."""
    found: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        found.setdefault(name, set())
        for node in ast.walk(ast.parse(path.read_text())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                top, _, rest = module.partition(".")
                other = rest.partition(".")[0]
                if top == package.name and _is_box(package, other):
                    found[name].add(other)
    return {name: frozenset(others - {name}) for name, others in found.items()}


def _is_box(package: Path, name: str) -> bool:
    return (package / name).is_dir() or (package / f"{name}.py").is_file() if name else False


def reduced(arrows: Arrows) -> dict[str, frozenset[str]]:
    """Arrows without those that follow from others (a transitive reduction; there are no circles).

    >>> {name: sorted(others) for name, others in reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}).items()}
    {'a': ['b'], 'b': ['c'], 'c': []}
    """
    return {
        name: frozenset(
            other
            for other in others
            if not any(other in _below(arrows, between) for between in others - {other})
        )
        for name, others in arrows.items()
    }


def _below(arrows: Arrows, name: str) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        for other in arrows[todo.pop()] - found:
            found.add(other)
            todo.append(other)
    return found
