"""What a script sets before it imports torch is seen in its source; what comes too late for that is not."""

import pytest

from leptond.core.script_settings import set_too_early

ENV = {"OMP_NUM_THREADS": "4"}


def look(source: str, **beside: str) -> str:
    sources = {name.replace("__", "."): text for name, text in beside.items()}
    return set_too_early(source, sources.get, ["torch"], lambda n: n.startswith(("OMP_", "TORCH_")), ENV)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("os.environ['OMP_NUM_THREADS'] = '1'", "sets OMP_NUM_THREADS"),
        ("os.environ['OMP_NUM_THREADS'] = str(2)", "sets OMP_NUM_THREADS"),
        ("os.environ.setdefault('TORCH_LOGS', 'all')", "sets TORCH_LOGS"),
        ("os.environ.update({'A': '1', 'TORCH_LOGS': '+dynamo'})", "sets TORCH_LOGS"),
        ("os.environ.update(TORCH_LOGS='+dynamo')", "sets TORCH_LOGS"),
        ("os.environ |= {'TORCH_LOGS': '+dynamo'}", "sets TORCH_LOGS"),
        ("del os.environ['OMP_NUM_THREADS']", "sets OMP_NUM_THREADS"),
        ("os.environ.pop('OMP_NUM_THREADS', None)", "sets OMP_NUM_THREADS"),
        ("os.putenv('OMP_NUM_THREADS', '1')", "sets OMP_NUM_THREADS"),
        ("e = os.environ\ne['TORCH_LOGS'] = 'x'", "sets TORCH_LOGS"),
        ("from os import environ as e\ne['TORCH_LOGS'] = 'x'", "sets TORCH_LOGS"),
        ("if len(sys.argv) > 1:\n    os.environ['TORCH_LOGS'] = 'x'", "sets TORCH_LOGS"),
        ("for k in 'ab':\n    os.environ[k] = '1'", "sets variables that only its run shows"),
        ("os.environ.update(read())", "sets variables that only its run shows"),
        ("from dotenv import load_dotenv\nload_dotenv()", "loads variables from a file"),
        ("os.environ.clear()", "clears its environment"),
        ("os.environ = {}", "replaces its environment"),
        ("import warnings\nwarnings.simplefilter('error')", "filters warnings"),
        ("from warnings import filterwarnings\nfilterwarnings('ignore')", "filters warnings"),
        ("import logging.config\nlogging.config.dictConfig({})", "configures logging"),
        ("logging.setLoggerClass(X)", "configures logging"),
        ("os.sched_setaffinity(0, {0})", "chooses its CPUs"),
        ("sys.path.insert(0, '/my/torch')", "changes where modules are found"),
        ("sys.path = ['x']", "changes where modules are found"),
        ("sys.path[0] = 'x'", "changes where modules are found"),
        ("sys.modules['triton'] = None", "replaces modules"),
        ("sys.meta_path.insert(0, X())", "changes how modules are found"),
        ("exec(open('x').read())", "runs code that is made at run time"),
        ("def f():\n    os.environ['TORCH_LOGS'] = 'x'\nf()", "sets TORCH_LOGS"),
        ("class A:\n    os.environ['TORCH_LOGS'] = 'x'", "sets TORCH_LOGS"),
        ("try:\n    pass\nfinally:\n    os.environ['TORCH_LOGS'] = 'x'", "sets TORCH_LOGS"),
        ("with open('x') as f:\n    os.environ['TORCH_LOGS'] = f.read()", "sets TORCH_LOGS"),
        ("print(os.environ.setdefault('TORCH_LOGS', 'x'))", "sets TORCH_LOGS"),
    ],
)
def test_settings_count_before_the_import_and_not_after(line, what):
    assert look(f"import os, sys\n{line}\nimport torch\n") == f"it {what} before it imports torch"
    assert look(f"import os, sys\nimport torch\n{line}\n") == ""
    assert look(f"import os, sys\nfrom torch import nn\n{line}\n") == ""


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['WANDB_MODE'] = 'offline'",
        "os.environ['OMP_NUM_THREADS'] = '4'",
        "os.environ.setdefault('OMP_NUM_THREADS', '1')",
        "os.environ.pop('TORCH_LOGS', None)",
        "print(os.environ['TORCH_LOGS'], os.environ.get('OMP_NUM_THREADS'))",
        "sys.path.append('/mine')",
        "sys.path.insert(0, os.path.dirname(__file__))",
        "model.eval()",
        "import logging\nlogging.basicConfig(level='INFO')",
        "def broken(:",
    ],
)
def test_what_makes_no_difference(line):
    assert look(f"import os, sys\n{line}\nimport torch\n") == ""


@pytest.mark.parametrize(
    "importing",
    [
        "if x:\n    import torch",
        "def f():\n    import torch",
        "try:\n    pass\nexcept Exception:\n    import torch",
        "for x in y:\n    import torch",
    ],
)
def test_an_import_that_may_not_happen_is_none(importing):
    assert look(f"import os\n{importing}\nos.environ['OMP_NUM_THREADS'] = '1'\n") != ""


@pytest.mark.parametrize(
    "importing", ["try:\n    import torch\nexcept E:\n    raise", "import torch.nn as nn, os"]
)
def test_an_import_that_happens_ends_the_look(importing):
    assert look(f"{importing}\nos.environ['OMP_NUM_THREADS'] = '1'\n") == ""


def test_a_main_function_counts_where_nothing_is_imported_before():
    text = "import os\ndef main():\n    os.environ['OMP_NUM_THREADS'] = '1'\n    import torch\n"
    assert (
        look(text + "if __name__ == '__main__':\n    main()\n")
        == "it sets OMP_NUM_THREADS before it imports torch"
    )


def test_modules_beside_the_script_are_read():
    sets = "import os\nos.environ['TORCH_LOGS'] = 'x'\n"
    assert (
        look("import settings\nimport torch\n", settings=sets) == "it sets TORCH_LOGS before it imports torch"
    )
    assert look("from pkg.a import x\nimport torch\n", pkg="", pkg__a=sets) != ""
    assert look("import torch\nimport settings\n", settings=sets) == ""
    assert look("import first\nimport settings\n", first="import torch", settings=sets) == ""
    assert look("import a\n", a="import b\n", b="import a\n" + sets) != ""
