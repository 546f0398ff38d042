"""The figures and sentences of `leptonctl cost`; the command itself is met with a real ledger."""

from __future__ import annotations

from typing import Any

import pytest

from leptond.cli.commands import cost

NO_MEMOS = {
    "undecided_gpu_seconds": 0.0,
    "idle_ratio": None,
    "never_used_gpu_seconds": 0.0,
    "unused_memory": None,
    "backoff_gpu_seconds": 0.0,
    "start_unknown": 0,
    "retries_saved": 0,
    "stopped_early": 0,
}
NOTHING: dict[str, Any] = {
    "currency": "EUR",
    "memos": NO_MEMOS,
    "goodput": None,
    "cost_per_useful_gpu_hour": None,
    "retries": [],
    "hand_over": {"p50_s": None},
    "checkpoints": {"mean_time_between_s": None, "interval_s_for_30_s": None},
    "energy": None,
}


def with_memos(**memos: Any) -> dict[str, Any]:
    return {**NOTHING, "memos": {**NO_MEMOS, **memos}}


def test_what_is_not_known_makes_no_sentence() -> None:
    assert cost._sentences(NOTHING) == []


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            {
                **NOTHING,
                "goodput": 0.5,
                "scheduling_goodput": 0.8,
                "runtime_goodput": 0.625,
                "capacity_goodput": 0.4,
            },
            "Goodput 50.0%: scheduling 80.0% x runtime 62.5%; of all that was there 40.0%",
        ),
        ({**NOTHING, "cost_per_useful_gpu_hour": 4.2}, "A productive GPU-hour cost 4.20 EUR"),
        (
            with_memos(idle_ratio=0.25, idle_gpu_seconds=7200.0, idle_cost=None),
            "Held but idle (under 5% busy): 2.00 GPU-h, 25.0% of the time that jobs held GPUs",
        ),
        (
            with_memos(idle_ratio=0.25, idle_gpu_seconds=7200.0, idle_cost=7.0),
            "Held but idle (under 5% busy): 2.00 GPU-h (7.00 EUR), 25.0% of the time that jobs held GPUs",
        ),
        (with_memos(never_used_gpu_seconds=3600.0), "Held and never used: 1.00 GPU-h"),
        (with_memos(unused_memory=0.5), "GPU memory that jobs held and never used: 50.0%"),
        (with_memos(backoff_gpu_seconds=360.0), "Empty because of back-off: 0.10 GPU-h"),
        (
            with_memos(retries_saved=4, retries_saved_gpu_seconds=3600.0, retries_saved_cost=1.0),
            "Failing fast spared 4 retries, about 1.00 GPU-h (1.00 EUR)",
        ),
        (
            {**NOTHING, "hand_over": {"p50_s": 0.004, "p99_s": 0.03, "starts": 12}},
            "Hand-over: 4 ms in the median, 30 ms at the 99th percentile of 12 starts",
        ),
        (
            {**NOTHING, "checkpoints": {"mean_time_between_s": 7200.0, "interval_s_for_30_s": 600.0}},
            "An attempt was interrupted every 2h: a checkpoint that takes 30 s to write pays every 10m",
        ),
        (
            {**NOTHING, "energy": {"kwh": 2.0, "idle_kwh": 0.5, "cost": 1.0, "sources": ["nvml"]}},
            "Energy: 2 kWh by jobs, 0.5 kWh by free GPUs, 1.00 EUR (nvml)",
        ),
    ],
)
def test_each_figure_has_its_sentence(found: dict[str, Any], sentence: str) -> None:
    assert cost._sentences(found) == [sentence]


def test_frequent_interruptions_get_no_advice() -> None:
    checkpoints = {"mean_time_between_s": 100.0, "interval_s_for_30_s": 77.0}
    assert cost._sentences({**NOTHING, "checkpoints": checkpoints}) == []


def test_only_the_worst_causes_of_retries_are_named() -> None:
    lines = [{"cause": f"c{n}", "succeeded": n, "retried": 9, "wasted_gpu_seconds": 3600.0} for n in range(7)]
    said = cost._sentences({**NOTHING, "retries": lines})
    assert len(said) == 5
    assert said[1] == "Retries after c1: 1 of 9 jobs succeeded, 1.00 GPU-h wasted"


def test_a_price_says_where_it_is_from() -> None:
    price = {"gpus": 2, "model": "H100", "per_gpu_hour": None}
    assert "no price is known" in cost.price_words(price)
    price |= {"per_gpu_hour": 2.5, "currency": "EUR", "source": "config", "as_of": "2026-11-01"}
    assert cost.price_words(price) == "2 x H100: 2.5 EUR a GPU-hour (config, 2026-11-01)"


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.0, "0"), (1234.5, "1,234.50"), (0.0123, "0.012")])
def test_money(value: float | None, text: str) -> None:
    assert cost.amount(value) == text
