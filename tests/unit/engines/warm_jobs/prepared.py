"""Run by an interpreter of an environment: prepares as a zygote does, and runs each of the scripts in a fork.

Arguments: the directory of leptond/engines, the plan (JSON), scripts. Prints the report, then for each script
a line with its output (both JSON)."""

import json
import os
import sys

engines, plan, *scripts = sys.argv[1:]
sys.path.insert(0, engines)
import zygote  # noqa: E402

imports, effects = zygote.load("engines.warm_imports", "engines.warm_effects", keep_bytecode=False)
del sys.path[:2]
home = os.getcwd()
os.chdir("/")
read, write = os.pipe()
saved = os.dup(1)
os.dup2(write, 1)
os.dup2(write, 2)
os.close(write)
report = imports.prepare(["first"], read, json.loads(plan))
os.dup2(saved, 1)
os.dup2(saved, 2)
print(json.dumps(report), flush=True)
for script in scripts:
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(into, 1)
        os.dup2(into, 2)
        os.closerange(3, 200)
        os.chdir(home)
        why = (
            imports.park.cold_reason(dict(os.environ), home, os.listdir(home)) if report.get("units") else ""
        )
        imports.park.preparing = False
        sys.argv = [script]
        sys.path.insert(0, home)
        names = {"__name__": "__main__", "__builtins__": __builtins__, "__file__": script}
        if why:
            print("COLD", why)
        else:
            with open(script) as file:
                code = compile(file.read(), os.path.join(home, script), "exec")
            exec(code, names)
        sys.exit()
    os.close(into)
    with open(out) as file:
        text = file.read()
    os.waitpid(child, 0)
    print(json.dumps(text), flush=True)
