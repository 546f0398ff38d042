"""Calls of Python: what starts warm, what starts cold and why."""

import pytest

from leptond.core.python_command import Command, parse, parse_script, with_threads_of_ranks


@pytest.mark.parametrize(
    ("argv", "how", "target", "args", "launches"),
    [
        (["python", "train.py", "-m", "x"], "script", "train.py", ["-m", "x"], False),
        (["/v/bin/python3.12", "-m", "pkg.train", "--lr=1"], "module", "pkg.train", ["--lr=1"], False),
        (["python3", "-u", "-c", "print(1)", "-O"], "code", "print(1)", ["-O"], False),
        (
            ["python", "-m", "torch.distributed.run", "t.py"],
            "module",
            "torch.distributed.run",
            ["t.py"],
            True,
        ),
        (["python", "/v/bin/torchrun", "t.py"], "script", "/v/bin/torchrun", ["t.py"], True),
        (["python", "-c", "torchrun"], "code", "torchrun", [], False),
    ],
)
def test_calls_of_python(argv, how, target, args, launches):
    found = parse(argv, {"PYTHONUNBUFFERED": "1"})
    assert isinstance(found, Command)
    assert (found.python, found.how, found.target, found.args) == (argv[0], how, target, args)
    assert (found.launches, found.argv, found.name) == (launches, argv, "")


@pytest.mark.parametrize(
    ("argv", "env", "why"),
    [
        (["/bin/sh", "-c", "python train.py"], {}, "not a Python"),
        (["python-config"], {}, "not a Python"),
        (["venv/bin/python", "t.py"], {}, "relative path"),
        (["python"], {}, "standard input"),
        (["python", "-"], {}, "standard input"),
        (["python", "-O", "t.py"], {}, "option -O"),
        (["python", "-Xdev", "t.py"], {}, "option -Xdev"),
        (["python", "-u", "t.py"], {}, "option -u"),
        (["python", "-c"], {}, "nothing follows -c"),
        (["python", "t.py"], {"LD_PRELOAD": "x.so"}, "LD_PRELOAD"),
        (["python", "t.py"], {"PYTHONMALLOC": "debug"}, "PYTHONMALLOC"),
        (["python", "t.py"], {"PYTHONPATH": "/a:b"}, "relative part"),
    ],
)
def test_what_starts_cold(argv, env, why):
    found = parse(argv, env)
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("first_line", "argv", "name"),
    [
        (b"#!/v/bin/python", ["/v/bin/python", "/v/bin/torchrun", "a b"], "torchrun"),
        (b"#! /v/bin/python3.11 \t", ["/v/bin/python3.11", "/v/bin/torchrun", "a b"], "torchrun"),
        (b"#!/v/bin/python -u", ["/v/bin/python", "-u", "/v/bin/torchrun", "a b"], "torchrun"),
        (b"#!/usr/bin/env python3", ["python3", "/v/bin/torchrun", "a b"], ""),
        (b"#!/usr/bin/env -S python3 -u", ["python3", "-u", "/v/bin/torchrun", "a b"], ""),
    ],
)
def test_scripts_are_read_as_the_kernel_reads_them(first_line, argv, name):
    found = parse_script("/v/bin/torchrun", first_line, ["a b"], {"PYTHONUNBUFFERED": "1"})
    assert isinstance(found, Command), found
    assert (found.argv, found.name, found.args, found.launches) == (argv, name, ["a b"], True)
    assert found.first_line == first_line.decode()


@pytest.mark.parametrize(
    ("first_line", "why"),
    [
        (b"", "not a Python"),
        (b"#!", "not a Python"),
        (b"#!/bin/sh", "not a Python"),
        (b"#!/v/bin/python\r", "not a Python"),
        (b"#!/v/bin/python -O", "option -O"),
        (b"#!/v/bin/python -u -O", "option -u -O"),
        (b"#!/v/bin/python -O -u", "option -O -u"),
        (b"#!bin/python", "relative path"),
        (b"#!/usr/bin/env", "more than a command"),
        (b"#!/usr/bin/env python3 -u", "without -S"),
        (b"#!/usr/bin/env -S A=1 python3", "more than a command"),
        (b"#!/usr/bin/env -S -i python3", "not a Python"),
        (b"#!/v/\xff/python", "not UTF-8"),
    ],
)
def test_scripts_that_start_cold(first_line, why):
    found = parse_script("./t.py", first_line, [], {"PYTHONUNBUFFERED": "1"})
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("argv", "env", "threads"),
    [
        ("python t.py", {}, None),
        ("python -m torch.distributed.run t.py", {}, None),
        ("python -m torch.distributed.run --nproc-per-node 2 t.py", {}, "1"),
        ("python -m torch.distributed.run --standalone --nproc_per_node=gpu t.py", {}, "1"),
        ("python -m torch.distributed.run --nproc_per_node=1 t.py", {}, None),
        ("python -m torch.distributed.run --nnodes 1 t.py --nproc-per-node 2", {}, None),
        ("python -m torch.distributed.run t.py", {"PET_NPROC_PER_NODE": "4"}, "1"),
        ("python -m torch.distributed.run --nproc-per-node 2 t.py", {"OMP_NUM_THREADS": "3"}, "3"),
        ("python -m accelerate.commands.launch t.py", {}, "1"),
    ],
)
def test_the_imports_of_ranks_belong_into_their_environment(argv, env, threads):
    found = parse(argv.split(), env)
    assert isinstance(found, Command)
    assert with_threads_of_ranks(found, env).get("OMP_NUM_THREADS") == threads
