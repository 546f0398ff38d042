"""`leptonctl budget`."""

from __future__ import annotations

import json

import pytest

from leptond.api.routes.budgets import BudgetLine, BudgetList
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, plain

LINE = BudgetLine(
    scope="user",
    name="ana",
    period="week",
    amount=None,
    gpu_hours=200.0,
    action="refuse",
    currency="EUR",
    spent=30.0,
    spent_gpu_hours=12.5,
    open_gpu_hours=4.0,
)
MONEY = BudgetLine(
    scope="project",
    name="p/q",
    period="month",
    amount=1000.0,
    gpu_hours=None,
    action="warn",
    currency="EUR",
    spent=30.0,
    spent_gpu_hours=12.5,
    open_gpu_hours=0.0,
)


def test_budgets_are_listed_in_their_unit(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/budgets", BudgetList(items=[LINE, MONEY]))
    result = cli("budget")
    assert result.rows[1:] == [
        ["user:ana", "week", "200.00 GPU-h", "12.50 GPU-h", "4.00", "refuse"],
        ["project:p/q", "month", "1,000.00 EUR", "30.00 EUR", "0", "warn"],
    ]
    assert json.loads(cli("budget", "--json").out) == plain(BudgetList(items=[LINE, MONEY]))


def test_without_one_the_first_is_taught(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/budgets", BudgetList(items=[]))
    assert "leptonctl budget user:ana --gpu-hours 200 --per week" in cli("budget").err


def test_one_is_set_and_removed_under_its_name(cli: Cli, stub: Stub):
    stub.on("PUT", "/v1/budgets/project/p%2Fq", MONEY)
    stub.on("DELETE", "/v1/budgets/project/p%2Fq", Answer(None, status=204))
    assert cli("budget", "project:p/q", "--amount", "1000", "--warn").code == 0
    assert stub.asked[-1].body == {"period": "month", "action": "warn", "amount": 1000.0}
    assert cli("budget", "project:p/q", "--remove").out == "project:p/q has no budget now\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--amount", "5"],
        ["--warn"],
        ["ana", "--amount", "5"],
        ["user:", "--amount", "5"],
        ["user:ana"],
        ["user:ana", "--amount", "5", "--gpu-hours", "5"],
        ["user:ana", "--remove", "--amount", "5"],
    ],
)
def test_a_mistake_asks_nothing_of_the_daemon(cli: Cli, stub: Stub, words: list[str]):
    assert cli("budget", *words).code == 2
    assert not stub.asked
