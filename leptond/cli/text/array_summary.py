"""An array in a few lines: how its members stand, and what they have in common."""

from __future__ import annotations

from leptond.cli.text import phrases
from leptond.core.jobs.resubmit import quote
from leptond.core.jobs.states import TERMINAL, State


def summary(array: phrases.Body, member: phrases.Body) -> list[tuple[str, str | int | float | None]]:
    """Names and values of an array (schema.Array), with what its first member shares with the others."""
    counts = array["counts"]
    total = sum(counts.values())
    argv = member["spec"]["argv"]
    over = sum(counts.get(state, 0) for state in TERMINAL)
    first = array.get("first_failed")
    return [
        ("array", f"{array['id']} ({total:,} members, {array['id']}_* together)"),
        ("name", array["name"]),
        ("user", array["user"]),
        ("state", "has ended" if over == total else f"{over:,} of {total:,} have ended"),
        *((state.replace("_", " "), counts[state]) for state in State if counts.get(state)),
        ("held", array["held"] or None),
        ("can never start", array["never_start"] or None),
        ("first that failed", f"{first}: leptonctl show {first}" if first else None),
        ("reason", phrases.reason_of(member) if member["state"] == "pending" else None),
        ("gpus each", member["gpus"]),
        ("queue", member.get("queue")),
        ("priority", member["priority"]),
        ("limit each", phrases.span(member.get("time_limit_s"), table=True)),
        ("command", argv[0] if member["spec"].get("shell") else " ".join(map(quote, argv))),
        ("members", _members(array["id"], unfinished=over < total)),
    ]


def _members(array_id: int, *, unfinished: bool) -> str:
    lists = "queue" if unfinished else "history"
    return f"leptonctl {lists} --array {array_id} lists them, leptonctl show {array_id}_N shows one"
