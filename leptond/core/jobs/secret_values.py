"""Secrets of jobs: which variables hold one, and how a text is shown without them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from leptond.core.jobs.resubmit import HIDDEN

SECRET_NAME = re.compile(r"(?i)(key|token|secret|passw|credential|cookie|auth)")
"""Variables with such names hold secrets."""

LEAST_CHARS = 6
"""A shorter value is not looked for in texts: it would be found within words."""

_IN_TEXT = re.compile(
    r"""
    (?P<before> :// )                                                     [^/\s@]{1,200}(?=@)  # of an address
  | (?P<name> \b\w{0,40}(?:key|token|secret|passw(?:or)?d|credential|cookie)["']?=["']? )  [^\s&,;'")]{4,}
  | (?P<scheme> \b(?:bearer|basic)\s )                                    [\w.+/=-]{8,}
  | \b(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abpr]-|AKIA|AIza|eyJ)  [\w.-]{8,}
    """,
    re.VERBOSE | re.IGNORECASE,
)


def secret_values(env: Mapping[str, str]) -> list[str]:
    """The values of the variables whose names speak of secrets, the longest first.

    >>> secret_values({"HOME": "/root", "WANDB_API_KEY": "0123456789"})
    ['0123456789']
    """
    found = {value for name, value in env.items() if SECRET_NAME.search(name) and len(value) >= LEAST_CHARS}
    return sorted(found, key=len, reverse=True)


def hide(text: str, values: Iterable[str] = ()) -> str:
    """`text` without `values`, and without what looks like a password or a token.

    >>> hide("cannot log in with 0123456789 at https://me:pw@host/x?token=abcdef", ["0123456789"])
    'cannot log in with *** at https://***@host/x?token=***'
    """
    for value in values:
        text = text.replace(value, HIDDEN)
    return _IN_TEXT.sub(_hidden, text)


def _hidden(match: re.Match[str]) -> str:
    return (match["before"] or match["name"] or match["scheme"] or "") + HIDDEN
