"""`leptonctl cost`: what GPU time was spent on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from leptond.cli.framework.click_bridge import command, kind
from leptond.cli.framework.output import Cell, Column, plain_row, print_line, print_table
from leptond.cli.framework.params import SINCE
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases
from leptond.core.jobs.timespec import format_duration

HOUR = 3600.0

MEANING = {
    "prod": "work that is kept",
    "start": "from start to first progress",
    "lost": "after the last checkpoint of attempts that were tried again",
    "failed": "of jobs that failed, timed out or were lost",
    "cancel": "of jobs that were cancelled, or stopped early by their sweep",
    "stop": "from stop signal to end",
    "gap": "hand-over between jobs",
    "fitidle": "kept free although a job fits",
    "frag": "free, and no waiting job fits",
    "empty": "free, and nothing waits",
    "out": "out of service",
}
"""The boxes in the order in which they are read: what was used, what was wasted, what was free."""

_WORDS = {
    "prod": "productive",
    "cancel": "cancelled",
    "gap": "hand-over",
    "fitidle": "kept free",
    "frag": "unfit",
    "empty": "idle",
    "out": "not in use",
}
"""What people read in place of the names that do not speak for themselves."""


@command("cost", short_help="Where GPU time went, what it cost and what would save most.")
@click.option(
    "--by",
    type=click.Choice(["user", "project", "queue", "job", "gpu"]),
    help="Also a line for each user, project, queue, job or GPU.",
)
@click.option("--since", type=kind(SINCE), help="From when on: 2h, 3d, today, 2026-12-24 [7d].")
@click.option("--until", type=kind(SINCE), help="Until when [now].")
@click.option(
    "--against",
    type=click.Choice(["fifo", "firstfit", "shortest", "easy", "auto", "throughput"]),
    default="firstfit",
    show_default=True,
    help="The policy to compare with, by a replay of the window's jobs.",
)
def cost_command(
    session: Session, by: str | None, since: str | None, until: str | None, against: str
) -> None:
    """Show where the GPU time of a window went: what was paid, what was productive, each waste with its
    cause, and what would save most. Every GPU-second is in exactly one box.

    In a pipe the first column says what a line is: window, box, cause, figure, price, group, replay or
    advice.
    Amounts there are GPU-seconds.
    """
    found = session.api.get("/v1/usage", {"group_by": by, "since": since, "until": until, "against": against})
    if session.json:
        session.emit(found)
    elif session.table:
        _screen(session, found, by)
    else:
        _lines(found)


def hours(seconds: float | None) -> str:
    """GPU-hours for people.

    >>> hours(5), hours(3600), hours(0), hours(0.2)
    ('0.0014', '1.00', '0', '<0.0001')
    """
    return "" if seconds is None else _figure(seconds / HOUR)


def amount(cost: float | None) -> str:
    """Money for people; nothing where a price is missing."""
    return "" if cost is None else _figure(cost)


def _figure(value: float) -> str:
    """Two decimals, or as many as a small one needs to be more than nothing."""
    if not value:
        return "0"
    if abs(value) >= 0.1:
        return f"{value:,.2f}"
    return f"{value:.2g}" if abs(value) >= 1e-4 else "<0.0001"


def percent(part: float | None) -> str:
    """A share for people."""
    return "" if part is None else f"{part:.1%}"


def _screen(session: Session, found: phrases.Body, by: str | None) -> None:
    currency = found["currency"]
    start, end = phrases.instant(found["since"]), phrases.instant(found["until"])
    assert start is not None
    assert end is not None
    length = format_duration((end - start).total_seconds())
    paid = found["paid"]
    print_line(
        session,
        f"{length} to {end.astimezone():%Y-%m-%d %H:%M} · {found['gpus']} GPUs"
        f" · {hours(found['capacity_gpu_seconds'])} GPU-h"
        + (f" · {amount(paid)} {currency} paid" if paid is not None else ""),
        style="bold",
    )
    if found["simulated"]:
        print_line(session, "The GPUs are simulated: load and energy are made up.", style="dim")
    for sentence in _opening(found):
        print_line(session, sentence)
    click.echo()
    boxes = {line["box"]: line for line in found["boxes"]}
    columns = (
        Column("BOX"),
        Column("GPU-H", right=True),
        Column("SHARE", right=True),
        Column(currency, right=True),
        Column("WHAT", fold=True),
    )
    used = [boxes[box] for box in MEANING if boxes[box]["gpu_seconds"]]
    print_table(session, columns, [row for line in used for row in _box_rows(line)])
    click.echo()
    for text in _sentences(found):
        print_line(session, text)
    if by is not None and found["groups"]:
        click.echo()
        _print_groups(session, found, by)
    click.echo()
    for price in found["prices"]:
        print_line(session, price_words(price), style="dim")
    if found["advice"]:
        click.echo()
        print_line(session, "What would save most", style="bold")
        for number, advice in enumerate(found["advice"], 1):
            cost = f", {amount(advice['cost'])} {currency}" if advice["cost"] is not None else ""
            print_line(session, f"{number}. {hours(advice['gpu_seconds'])} GPU-h{cost}: {advice['sentence']}")


def _opening(found: phrases.Body) -> Iterator[str]:
    """What the figures come to, in three sentences."""
    whole = found["capacity_gpu_seconds"]
    if not whole:
        yield "No GPU time has been counted yet."
        return
    spent = {line["box"]: line["gpu_seconds"] for line in found["boxes"]}
    kept, free = spent["prod"], spent["empty"] + spent["frag"] + spent["fitidle"]
    lost = sum(spent[box] for box in ("start", "lost", "failed", "cancel", "stop", "gap"))
    yield (
        f"{percent(kept / whole)} of the GPU time went into work that is kept, {percent(lost / whole)} into"
        f" starts, stops and work that is not, and {percent(free / whole)} was free."
    )
    worst = max((line for line in found["boxes"] if line["box"] != "prod"), key=_seconds)
    if worst["gpu_seconds"]:
        yield f"The largest part that was not productive: {MEANING[worst['box']]}, {_hours_of(worst, found)}."
    if found["advice"]:
        best = found["advice"][0]
        yield f"What would save most, {_hours_of(best, found)}: {best['sentence']}"


def _seconds(line: phrases.Body) -> float:
    return float(line["gpu_seconds"])


def _hours_of(line: phrases.Body, found: phrases.Body) -> str:
    return _hours_and_cost(line["gpu_seconds"], line["cost"], found["currency"])


def _box_rows(line: phrases.Body) -> list[list[Cell]]:
    mark = " (waste)" if line["waste"] and line["gpu_seconds"] else ""
    head: list[Cell] = [
        _WORDS.get(line["box"], line["box"]),
        hours(line["gpu_seconds"]),
        percent(line["share"]),
        amount(line["cost"]),
        MEANING[line["box"]] + mark,
    ]
    causes: list[list[Cell]] = [
        [" ", hours(cause["gpu_seconds"]), " ", amount(cause["cost"]), f"  {cause['cause']}"]
        for cause in line["causes"][:5]
    ]
    return [head, *causes]


def price_words(price: phrases.Body) -> str:
    """A price with where it is from and when it was seen; without one, that there is none."""
    if price["per_gpu_hour"] is None:
        return (
            f"{price['gpus']} x {price['model']}: no price is known, so only GPU-hours are shown"
            " (set [cost] prices)"
        )
    seen = f", {price['as_of']}" if price["as_of"] else ""
    return (
        f"{price['gpus']} x {price['model']}: {price['per_gpu_hour']:g} {price['currency']} a GPU-hour"
        f" ({price['source']}{seen})"
    )


def _sentences(found: phrases.Body) -> list[str]:
    """The figures that cut across the boxes, where there are any."""
    currency = found["currency"]
    return [
        *_goodput(found),
        *_idle(found["memos"], currency),
        *_retries(found["retries"]),
        *_saved(found["memos"], currency),
        *_hand_over(found["hand_over"]),
        *_checkpoints(found["checkpoints"]),
        *_comparison(found.get("comparison"), currency),
        *_energy(found["energy"], currency),
    ]


def _hours_and_cost(seconds: float, cost: float | None, currency: str) -> str:
    return f"{hours(seconds)} GPU-h" + (f" ({amount(cost)} {currency})" if cost is not None else "")


def _goodput(found: phrases.Body) -> Iterator[str]:
    if found["goodput"] is not None:
        yield (
            f"Goodput {percent(found['goodput'])}: scheduling {percent(found['scheduling_goodput'])}"
            f" x runtime {percent(found['runtime_goodput'])};"
            f" of all that was there {percent(found['capacity_goodput'])}"
        )
    if found["cost_per_useful_gpu_hour"] is not None:
        yield f"A productive GPU-hour cost {amount(found['cost_per_useful_gpu_hour'])} {found['currency']}"
    if found["memos"]["undecided_gpu_seconds"]:
        yield (
            f"Of the productive time {hours(found['memos']['undecided_gpu_seconds'])} GPU-h belong to jobs"
            " whose end is not known yet"
        )


def _idle(memos: phrases.Body, currency: str) -> Iterator[str]:
    """GPU time and memory that jobs held and did not use, and attempts of which that is not known."""
    if memos["idle_ratio"] is not None:
        idle = _hours_and_cost(memos["idle_gpu_seconds"], memos["idle_cost"], currency)
        yield (
            f"Held but idle (under 5% busy): {idle},"
            f" {percent(memos['idle_ratio'])} of the time that jobs held GPUs"
        )
    if memos["never_used_gpu_seconds"]:
        yield f"Held and never used: {hours(memos['never_used_gpu_seconds'])} GPU-h"
    if memos["unused_memory"] is not None:
        yield f"GPU memory that jobs held and never used: {percent(memos['unused_memory'])}"
    if memos["backoff_gpu_seconds"]:
        yield f"Empty because of back-off: {hours(memos['backoff_gpu_seconds'])} GPU-h"
    if memos["start_unknown"]:
        yield f"{memos['start_unknown']} attempts told no progress: their start counts as productive"


def _retries(retries: Sequence[phrases.Body]) -> Iterator[str]:
    for line in retries[:5]:
        yield (
            f"Retries after {line['cause']}: {line['succeeded']} of {line['retried']} jobs succeeded,"
            f" {hours(line['wasted_gpu_seconds'])} GPU-h wasted"
        )


def _saved(memos: phrases.Body, currency: str) -> Iterator[str]:
    """GPU time that was not spent: on retries that would have failed, on trials that sweeps stopped."""
    if memos["retries_saved"]:
        saved = _hours_and_cost(memos["retries_saved_gpu_seconds"], memos["retries_saved_cost"], currency)
        yield f"Failing fast spared {memos['retries_saved']} retries, about {saved}"
    if memos["stopped_early"]:
        saved = _hours_and_cost(memos["stopped_early_gpu_seconds"], memos["stopped_early_cost"], currency)
        yield (
            f"Stopped early by sweeps: {memos['stopped_early']} trials whose pace is known, about {saved}"
            " saved (an estimate: the steps that each had left, at that pace)"
        )


def _hand_over(found: phrases.Body) -> Iterator[str]:
    if found["p50_s"] is not None:
        yield (
            f"Hand-over: {found['p50_s'] * 1000:.0f} ms in the median,"
            f" {found['p99_s'] * 1000:.0f} ms at the 99th percentile of {found['starts']} starts"
        )


def _checkpoints(advice: phrases.Body) -> Iterator[str]:
    between, interval = advice["mean_time_between_s"], advice["interval_s_for_30_s"]
    if interval is not None and interval < between / 2:  # the formula is for rare interruptions
        yield (
            f"An attempt was interrupted every {format_duration(between)}: a checkpoint that takes 30 s to"
            f" write pays every {format_duration(interval)}"
        )


def _energy(energy: phrases.Body | None, currency: str) -> Iterator[str]:
    if energy is not None:
        cost = f", {amount(energy['cost'])} {currency}" if energy["cost"] is not None else ""
        yield (
            f"Energy: {energy['kwh']:.3g} kWh by jobs, {energy['idle_kwh']:.3g} kWh by free GPUs{cost}"
            f" ({', '.join(energy['sources'])})"
        )


def _comparison(found: phrases.Body | None, currency: str) -> list[str]:
    """The policy's result for the window's jobs, beside that of another; nothing where it is the same
    policy."""
    if found is None or found["policy"] == found["against"]:
        return []
    saved = found["against_idle_gpu_seconds"] - found["idle_gpu_seconds"]
    cost = f" ({amount(abs(found['saved_cost']))} {currency})" if found["saved_cost"] is not None else ""
    return [
        f"Replayed under {found['policy']} and {found['against']} ({found['jobs']} jobs):"
        f" mean time to the end {format_duration(found['jct_s'])} against"
        f" {format_duration(found['against_jct_s'])};"
        f" {hours(abs(saved))} GPU-h{cost} {'less' if saved >= 0 else 'more'} free while jobs waited"
    ]


def _key(line: phrases.Body) -> str:
    """The name of a line; of a job with its ref (``47_3 train.py``)."""
    if not line.get("ref"):
        return str(line["key"])
    return " ".join([line["ref"], *str(line["key"]).split(" ")[1:]])


def _print_groups(session: Session, found: phrases.Body, by: str) -> None:
    currency = found["currency"]
    columns = (
        Column(by.upper()),
        Column("JOBS", right=True),
        Column("GPU-H", right=True),
        Column("PROD", right=True),
        Column("WASTED", right=True),
        Column("IDLE", right=True),
        Column("KWH", right=True),
        Column(currency, right=True),
        Column(f"{currency} WASTED", right=True),
    )
    rows = [
        [
            _key(line),
            line["jobs"],
            hours(line["gpu_seconds"]),
            hours(line["productive_gpu_seconds"]),
            hours(line["wasted_gpu_seconds"]),
            hours(line["idle_gpu_seconds"]),
            None if line["kwh"] is None else f"{line['kwh']:.3g}",
            amount(line["cost"]),
            amount(line["wasted_cost"]),
        ]
        for line in found["groups"]
    ]
    print_table(session, columns, rows)


def _lines(found: phrases.Body) -> None:
    rows: list[list[Cell]] = [
        [
            "window",
            found["since"],
            found["until"],
            found["gpus"],
            found["capacity_gpu_seconds"],
            found["paid"],
        ]
    ]
    for line in found["boxes"]:
        rows.append(["box", line["box"], line["gpu_seconds"], line["cost"]])
        rows += [
            ["cause", line["box"], cause["gpu_seconds"], cause["cost"], cause["cause"]]
            for cause in line["causes"]
        ]
    for name in ("scheduling_goodput", "runtime_goodput", "goodput", "capacity_goodput"):
        rows.append(["figure", name, found[name]])
    rows.append(["figure", "cost_per_useful_gpu_hour", found["cost_per_useful_gpu_hour"]])
    rows += [["figure", name, value] for name, value in found["memos"].items()]
    rows += [
        ["price", p["model"], p["per_gpu_hour"], p["currency"], p["source"], p["as_of"]]
        for p in found["prices"]
    ]
    rows += [
        ["group", g["key"], g["jobs"], g["gpu_seconds"], g["wasted_gpu_seconds"], g["cost"], g["wasted_cost"]]
        for g in found["groups"]
    ]
    comparison = found.get("comparison")
    if comparison is not None:
        rows.append(["replay", *comparison.values()])
    rows += [["advice", one["gpu_seconds"], one["cost"], one["sentence"]] for one in found["advice"]]
    for row in rows:
        click.echo(plain_row(row))
