"""Structure and words of the package in figures, for a table of before and after.

    python -m tests.repo.house [ROOT] [--json] [--list NAME]

ROOT is a checkout (this one by default); its layout does not matter. ``--list`` prints what a figure counts.
Words are counted in identifiers, comments and docstrings; other strings hold SQL and names on the wire.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[2]
LONG_FILE = 500
LONG_FUNCTION = 60

WORDS: Mapping[str, str] = {
    "deck": r"\b(on[ _]deck|deck)\b",
    "turn (a scheduling pass)": r"\b(turns? of the scheduler|a plan's turn|scheduler's turn)\b|\bTurn\b",
    "look (a scheduling pass)": r"\b(a|another|this|next|last|one|each|short|longer) looks?\b|\blooked\b",
    "scene": r"\bscenes?\b",
    "fold, unfold": r"\b(un)?fold(s|ed|er|ing)?\b",
    "kept for, passed over": r"\b(is|are) kept for\b|\bpassed over\b|\bnobody passes\b",
    "signature (job, attempt)": r"\bsignatures?\b",
    "rank (not torchrun's)": r"\branks?\b",
    "jot, write_first": r"\bjot(s|ted)?\b|\bwrite_first\b",
    "told, tells": r"\b(told|tells?)\b",
    "stands, stood": r"\b(stands?|stood|standing)\b",
    "went, booked, undo": r"\b(went|booked|undo)\b",
    "strays, obstacle, trouble": r"\b(strays?|obstacles?|troubles?)\b",
    "room (of a disk or machine)": r"\brooms?\b",
    "bookkeeper, keeping": r"\b(bookkeeper|keeping)\b",
    "catchup, unfolder, joblog, inplace, callresult": r"\b(catchup|unfolder|joblog|inplace|callresult)\b",
    "nobody, somebody, whom": r"\b(nobody|somebody|whom)\b",
    "he, his, him": r"\b(he|his|him)\b",
}
"""Words that section 4 of the plan replaces. Identifiers are split at underscores and capitals first."""

DOCSTRING_START = re.compile(r"^\s*(Who|Whom|Whose|What|Whether|How|Why)\b")
NO_TORCHRUN = re.compile(r"/(train|integrations|demo)/|torchrun|cli/ranks")
"""Files in which a rank is torchrun's."""


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the package in `root` by its dotted name."""
    found = {}
    for path in sorted((root / "leptond").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file; each is parsed once."""
    return ast.parse(path.read_text())


def imports(known: Mapping[str, Path], name: str) -> set[str]:
    """Return the modules of the package that a module imports anywhere, also within functions."""
    found: set[str] = set()
    for node in ast.walk(tree(known[name])):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "leptond":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "leptond"}
    return (found & known.keys()) - {name}


def top_box(module: str) -> str:
    """Return the folder or loose module directly below the package that `module` belongs to."""
    return ".".join(module.split(".")[:2])


def folder(known: Mapping[str, Path], module: str) -> str:
    """Return the dotted folder that holds `module`."""
    return module if known[module].name == "__init__.py" else module.rpartition(".")[0]


def arrows(known: Mapping[str, Path], box: Callable[[str], str]) -> set[tuple[str, str]]:
    """Return the pairs of different boxes of which the first imports from the second."""
    found = {(box(name), box(other)) for name in known for other in imports(known, name)}
    return {(one, other) for one, other in found if one != other}


def upward(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return a small set of arrows without which no circle is left (greedy feedback arc set).

    Eades, Lin and Smyth, "A fast and effective heuristic for the feedback arc set problem", 1993, improved by
    moving single boxes while that turns an arrow round.

    >>> upward({("a", "b"), ("b", "c"), ("c", "a"), ("c", "b")})
    {('b', 'c')}
    """
    left = {box for edge in edges for box in edge}
    head: list[str] = []
    tail: list[str] = []
    while left:
        within = [(one, other) for one, other in edges if one in left and other in left]
        out = {box: sum(1 for one, _ in within if one == box) for box in left}
        into = {box: sum(1 for _, other in within if other == box) for box in left}
        sinks = sorted(box for box in left if not out[box])
        sources = sorted(box for box in left if not into[box])
        if sinks:
            tail[:0] = sinks
            left -= set(sinks)
        elif sources:
            head += sources
            left -= set(sources)
        else:
            best = max(sorted(left), key=lambda box: out[box] - into[box])
            head.append(best)
            left.remove(best)
    order = _improved([*head, *tail], edges)
    at = {box: number for number, box in enumerate(order)}
    return {(one, other) for one, other in edges if at[one] > at[other]}


def _improved(order: list[str], edges: set[tuple[str, str]]) -> list[str]:
    def cost(some: list[str]) -> int:
        at = {box: number for number, box in enumerate(some)}
        return sum(1 for one, other in edges if at[one] > at[other])

    best, least = order, cost(order)
    changed = True
    while changed:
        changed = False
        for box in list(best):
            rest = [one for one in best if one != box]
            for number in range(len(best)):
                tried = [*rest[:number], box, *rest[number:]]
                if cost(tried) < least:
                    best, least, changed = tried, cost(tried), True
    return best


def long_functions(path: Path) -> Iterator[str]:
    """Yield ``name (lines)`` of the functions in a file that are longer than LONG_FUNCTION lines."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONG_FUNCTION:
                yield f"{node.name} ({lines})"


def has_code(path: Path) -> bool:
    """Return True if a module defines functions or classes."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return any(isinstance(node, kinds) for node in tree(path).body)


def without_test(root: Path, known: Mapping[str, Path]) -> list[str]:
    """Return the modules with code that have no test_<module>.py at the same path below tests/unit or, as
    before tests/unit was there, below tests."""
    found = []
    for name, path in known.items():
        module = path.relative_to(root / "leptond")
        own = module.with_name(f"test_{module.stem}.py")
        if path.name == "__init__.py":
            own = module.parent / f"test_{module.parent.name or 'leptond'}.py"
        places = (root / "tests" / "unit" / own, root / "tests" / own)
        if has_code(path) and not any(place.exists() for place in places):
            found.append(name)
    return found


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the docstrings of a module, also those below assignments."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the identifiers, split into words, the comments and the docstrings of a file."""
    yield from docstrings(path)
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type == tokenize.NAME:
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", token.string).replace("_", " ")
            yield token.start[0], words


def words_left(root: Path, known: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return ``file:line`` of each use of the words that are to go, by label."""
    found: dict[str, list[str]] = {label: [] for label in WORDS}
    patterns = {label: re.compile(pattern, re.IGNORECASE) for label, pattern in WORDS.items()}
    for path in known.values():
        place = path.relative_to(root).as_posix()
        for line, text in prose(path):
            for label, pattern in patterns.items():
                if label.startswith("rank") and NO_TORCHRUN.search(place):
                    continue
                found[label] += [f"{place}:{line}"] * len(pattern.findall(text))
    return found


def survey(root: Path) -> dict[str, list[str]]:
    """Return what each figure counts, by its name."""
    known = modules(root)
    folders = {folder(known, name) for name in known}
    between = arrows(known, top_box)
    inner = arrows(known, lambda name: folder(known, name))
    found = {
        "boxes directly below the package": sorted({top_box(name) for name in known}),
        "arrows between them": sorted(f"{one} -> {other}" for one, other in between),
        "arrows up (least to remove)": sorted(f"{one} -> {other}" for one, other in upward(between)),
        "folders with modules": sorted(folders),
        "most modules in one folder": _fullest(known),
        "arrows between folders": sorted(f"{one} -> {other}" for one, other in inner),
        f"files over {LONG_FILE} lines": [
            f"{path.relative_to(root)} ({lines})"
            for path in known.values()
            if (lines := len(path.read_text().splitlines())) > LONG_FILE
        ],
        f"functions over {LONG_FUNCTION} lines": [
            f"{path.relative_to(root)}: {name}" for path in known.values() for name in long_functions(path)
        ],
        "modules with code": [name for name, path in known.items() if has_code(path)],
        "modules without a unit test of their own": without_test(root, known),
        "docstrings that begin with Who, What, Whether, How, Why": [
            f"{path.relative_to(root)}:{line}"
            for path in known.values()
            for line, text in docstrings(path)
            if DOCSTRING_START.match(text)
        ],
    }
    return {**found, **{f"word: {label}": places for label, places in words_left(root, known).items()}}


def _fullest(known: Mapping[str, Path]) -> list[str]:
    by_folder: dict[str, list[str]] = {}
    for name, path in known.items():
        if path.name != "__init__.py":
            by_folder.setdefault(folder(known, name), []).append(name)
    return max(by_folder.values(), key=len)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.repo.house", description="structure in figures")
    parser.add_argument("root", type=Path, nargs="?", default=TOP, help="a checkout [this one]")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--list", metavar="NAME", help="print what is counted, of figures with NAME in theirs"
    )
    options = parser.parse_args()
    found = survey(options.root.resolve())
    if options.list is not None:
        for name, places in found.items():
            if options.list.lower() in name.lower():
                print(f"{name}: {len(places)}", *(f"  {place}" for place in places), sep="\n")
        return
    if options.json:
        print(json.dumps({name: len(places) for name, places in found.items()}, indent=2))
        return
    for name, places in found.items():
        print(f"{len(places):6}  {name}")


if __name__ == "__main__":
    main()
