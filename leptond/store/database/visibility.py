"""Which jobs somebody sees in full, as a condition in SQL; :meth:`leptond.core.access.visible.Visible.shows`
says the same of one job, and a test compares them."""

from __future__ import annotations

from typing import Any

from leptond.core.access.visible import Visible


def condition(visible: Visible) -> tuple[str, list[Any]]:
    """Return the condition for ``jobs`` and ``folds``, and its values."""
    if visible.everything:
        return "1", []
    parts, values = ["user = ?"], [visible.user]
    if visible.shown:
        # never NULL: the condition is also negated
        parts.append(f"project IS NOT NULL AND project IN ({_marks(visible.shown)})")
        values += sorted(visible.shown)
    if visible.others:
        parts.append(f"project IS NULL OR project NOT IN ({_marks(visible.hidden)})")
        values += sorted(visible.hidden)
    return f"({' OR '.join(parts)})", values


def _marks(names: frozenset[str]) -> str:
    return ", ".join("?" * len(names))
