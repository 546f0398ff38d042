"""Settings that a script makes before it imports what a warm process has imported already: variables, warning
filters, the configuration of logging, module paths. They would come too late there, so such a script starts
cold. Pure; standard library alone, because warm processes import it.

The source is read, not run. Statements count in their order until all `roots` (torch) have surely been
imported; where they are not, all of them count, also those in functions. Modules that lie
beside the script are read where they are imported. What installed packages set, and code that is made at run
time, is not seen here."""

from __future__ import annotations

import ast
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

MOST_FILES = 100
HINT = re.compile(
    r"environ|putenv|unsetenv|dotenv|filterwarnings|simplefilter|resetwarnings|captureWarnings|dictConfig"
    r"|fileConfig|setLoggerClass|logging\.disable|meta_path|path_hooks|sys\.path\b|sys\.modules|setaffinity"
    r"|setdlopenflags|\bexec\s*\(|\beval\s*\(|runpy|set_default_device|from\s+(os|sys|logging|warnings)\b"
)
"""Words without which there is no such setting: most sources need no closer look."""
IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+([A-Za-z_][\w.]*)", re.MULTILINE)
LATE = re.compile(
    r"(CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|LAUNCH_BLOCKING|MODULE_LOADING|CACHE_\w+)|CUBLAS_WORKSPACE_CONFIG"
    r"|CUDNN_\w+|NCCL_\w+|TORCH_NCCL_\w+|TORCHELASTIC_\w+|TORCH_(HOME|EXTENSIONS_DIR|CUDA_ARCH_LIST)|PYTHON\w*"
    r"|LD_\w+|MALLOC_\w+|GLIBC_\w+|LANG\w*|LC_\w+|LOCPATH|TZ\w*|VIRTUAL_ENV\w*)\Z"
)
"""Variables that have the same effect after the import: C libraries read them later, or not after the start
of the process at all."""

CALLS = {
    "captureWarnings": "has warnings logged",
    "dictConfig": "configures logging",
    "disable": "",
    "exec": "runs code that is made at run time",
    "eval": "runs code that is made at run time",
    "fileConfig": "configures logging",
    "filterwarnings": "filters warnings",
    "find_dotenv": "loads variables from a file",
    "load_dotenv": "loads variables from a file",
    "resetwarnings": "filters warnings",
    "run_module": "runs code that is made at run time",
    "run_path": "runs code that is made at run time",
    "sched_setaffinity": "chooses its CPUs",
    "setLoggerClass": "configures logging",
    "setdlopenflags": "chooses how libraries are loaded",
    "simplefilter": "filters warnings",
}
PLACES = {"meta_path": "changes how modules are found", "path_hooks": "changes how modules are found"}
PLACES["modules"] = "replaces modules"
SAFE_OF_PATH = frozenset({"append", "extend", "index", "count", "copy"})


class Reader:
    """Looks for settings in sources. `source_of` returns the source of a module beside the script, None for
    any other; `matters` says if a variable was read by the imports; `env` is the job's environment."""

    def __init__(
        self,
        source_of: Callable[[str], str | None],
        roots: Collection[str],
        matters: Callable[[str], bool],
        env: Mapping[str, str],
    ) -> None:
        self._source_of = source_of
        self._roots = frozenset(name.partition(".")[0] for name in roots)
        self._waiting = set(self._roots)
        self._matters = matters
        self._env = dict(env)
        self._seen: set[str] = set()
        self._environs = {"environ"}

    def look(self, source: str) -> str:
        """Return what a source sets too early, as the rest of a sentence that begins with the script; empty:
        nothing.

        >>> reader = Reader(lambda name: None, ["torch"], lambda name: name.startswith("OMP_"), {})
        >>> reader.look("import os, torch\\nos.environ['OMP_NUM_THREADS'] = '1'")
        ''
        >>> reader = Reader(lambda name: None, ["torch"], lambda name: name.startswith("OMP_"), {})
        >>> reader.look("import os\\nos.environ['OMP_NUM_THREADS'] = '1'\\nimport torch")
        'sets OMP_NUM_THREADS'
        """
        tops = {name.partition(".")[0] for name in IMPORT.findall(source)}
        ends = bool(self._seen) and not self._roots.isdisjoint(tops)
        if not HINT.search(source) and not ends and all(self._source_of(top) is None for top in tops):
            return ""
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return ""  # it fails in the same way
        return self._body(tree.body, sure=True)

    def _body(self, body: list[ast.stmt], *, sure: bool) -> str:
        for statement in body:
            why = self._statement(statement, sure=sure)
            if why or not self._waiting:
                return why
        return ""

    def _statement(self, node: ast.stmt, *, sure: bool) -> str:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return self._import(node, sure=sure)
        for kind in (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef):
            if isinstance(node, kind):
                return self._body(node.body, sure=sure and kind is ast.ClassDef)
        if isinstance(node, ast.If) and _is_main(node.test):
            return self._body(node.body, sure=sure)
        blocks = [list(_statements(node, name)) for name in ("body", "handlers", "orelse", "finalbody")]
        if any(blocks):
            always = isinstance(node, (ast.With, ast.AsyncWith, ast.Try))
            why = self._expressions(node)
            for place, block in enumerate(blocks):
                why = why or self._body(block, sure=sure and always and place in (0, 3))
            return why
        return self._expressions(node)

    def _import(self, node: ast.Import | ast.ImportFrom, *, sure: bool) -> str:
        if isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        else:
            self._note_aliases(node)
            names = (
                [node.module or ""]
                if not node.level
                else [node.module or "", *(one.name for one in node.names)]
            )
        for name in names:
            top = name.partition(".")[0]
            if top in self._roots and not getattr(node, "level", 0):
                self._waiting -= {top} if sure else set()
                continue
            for one in dict.fromkeys((top, name)):
                why = self._beside(one, sure=sure)
                if why or not self._waiting:
                    return why
        return ""

    def _note_aliases(self, node: ast.ImportFrom) -> None:
        for one in node.names:
            if node.module == "os" and one.name == "environ":
                self._environs.add(one.asname or one.name)

    def _beside(self, name: str, *, sure: bool) -> str:
        source = self._source_of(name) if name and name not in self._seen else None
        self._seen.add(name)
        if source is None:
            return ""
        if len(self._seen) > MOST_FILES:
            return "imports too many modules of its own to look at"
        waiting = set(self._waiting)
        why = self.look(source)
        if not sure:
            self._waiting = waiting
        return why

    # -- expressions ------------------------------------------------------------------------------------

    def _expressions(self, node: ast.stmt) -> str:
        for one in _own_nodes(node):
            why = ""
            if isinstance(one, ast.Call):
                why = self._call(one)
            elif isinstance(one, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                why = self._assignment(one)
            elif isinstance(one, ast.Delete):
                why = next((found for target in one.targets if (found := self._target(target, None))), "")
            if why:
                return why
        return ""

    def _assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> str:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if node.value is not None and self._is_environ(node.value):
            self._environs.update(one.id for one in targets if isinstance(one, ast.Name))
            return ""
        for target in targets:
            if isinstance(node, ast.AugAssign) and self._is_environ(target):
                return self._many(node.value)
            why = self._target(target, node.value)
            if why:
                return why
        return ""

    def _target(self, target: ast.expr, value: ast.expr | None) -> str:
        if isinstance(target, ast.Subscript) and self._is_environ(target.value):
            return self._variable(target.slice, value)
        place = target.value if isinstance(target, ast.Subscript) else target
        if isinstance(place, ast.Attribute) and _is_name(place.value, "sys"):
            if place.attr == "path":
                return "changes where modules are found"
            return PLACES.get(place.attr, "")
        return "replaces its environment" if self._is_environ(target) else ""

    def _call(self, node: ast.Call) -> str:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = function.value if isinstance(function, ast.Attribute) else None
        first = node.args[0] if node.args else None
        if owner is not None and self._is_environ(owner):
            if name == "setdefault" and isinstance(first, ast.Constant) and first.value in self._env:
                return ""
            if name in ("setdefault", "pop", "__setitem__", "__delitem__"):
                return self._variable(first, node.args[1] if len(node.args) > 1 and name != "pop" else None)
            if name == "update":
                keywords = [word.arg for word in node.keywords]
                return self._many(first) or next(
                    (self._named(one) for one in keywords if self._named(one)), ""
                )
            return "clears its environment" if name in ("clear", "popitem") else ""
        if name in ("putenv", "unsetenv"):
            return self._variable(first, node.args[1] if len(node.args) > 1 else None)
        if owner is not None and isinstance(owner, ast.Attribute) and _is_name(owner.value, "sys"):
            if owner.attr == "path":
                return "" if name in SAFE_OF_PATH else self._path(node, name)
            return "" if name in ("get", "keys", "items", "values", "copy") else PLACES.get(owner.attr, "")
        if name in ("exec", "eval") and owner is not None:
            return ""  # a method of that name
        return CALLS.get(name, "")

    def _path(self, node: ast.Call, name: str) -> str:
        """The directory of the script, which is on the path already, may come first once more."""
        text = ast.dump(node)
        return "" if name == "insert" and "'__file__'" in text else "changes where modules are found"

    def _many(self, value: ast.expr | None) -> str:
        if value is None:
            return ""
        if not isinstance(value, ast.Dict):
            return "sets variables that only its run shows"
        pairs = zip(value.keys, value.values, strict=True)
        return next((why for key, one in pairs if (why := self._variable(key, one))), "")

    def _variable(self, name: ast.expr | None, value: ast.expr | None) -> str:
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return "sets variables that only its run shows"
        if isinstance(value, ast.Constant) and self._env.get(name.value) == value.value:
            return ""
        if value is None and name.value not in self._env:
            return ""  # it is taken away, and is not there
        return self._named(name.value)

    def _named(self, name: str | None) -> str:
        if name is None:
            return "sets variables that only its run shows"
        return f"sets {name}" if self._matters(name) else ""

    def _is_environ(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._environs
        return isinstance(node, ast.Attribute) and node.attr in ("environ", "environb")


def _statements(node: ast.AST, name: str) -> Iterator[ast.stmt]:
    for one in getattr(node, name, None) or ():
        if isinstance(one, ast.ExceptHandler):
            yield from one.body
        elif isinstance(one, ast.stmt):
            yield one


def _own_nodes(node: ast.stmt) -> Iterator[ast.AST]:
    """Yield a statement and its expressions, without the statements in it."""
    fresh: list[ast.AST] = [node]
    while fresh:
        one = fresh.pop(0)
        yield one
        fresh.extend(child for child in ast.iter_child_nodes(one) if not isinstance(child, ast.stmt))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _is_main(node: ast.expr) -> bool:
    return isinstance(node, ast.Compare) and _is_name(node.left, "__name__")


def set_too_early(
    source: str,
    source_of: Callable[[str], str | None],
    roots: Collection[str],
    matters: Callable[[str], bool],
    env: Mapping[str, str],
) -> str:
    """Return what the script `source` sets before it imports one of `roots`; empty: nothing. Arguments as for
    :class:`Reader`."""
    if not roots:
        return ""
    why = Reader(source_of, roots, matters, env).look(source)
    return f"it {why} before it imports {' and '.join(sorted(roots))}" if why else ""
