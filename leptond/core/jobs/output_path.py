"""Where a job wants a copy of its output: a path with the marks of sbatch. Pure."""

from __future__ import annotations

import re

NO_COPY = "/dev/null"
"""An output path that asks for no copy."""

_MARK = re.compile(r"%(\d{0,2})(.?)", re.DOTALL)


def expand(
    pattern: str, *, job_id: int, array_id: int | None, array_index: int | None, name: str, user: str
) -> str:
    """`pattern` with ``%j`` the job's id, ``%A`` and ``%a`` the array's id and its index there (of a job
    alone: its id, and 0), ``%x`` its name, ``%u`` its user and ``%%`` a percent sign; a number pads, as
    ``%4a``. Raises ValueError for any other mark.

    >>> expand("/logs/%x-%A_%3a.out", job_id=9, array_id=7, array_index=2, name="sweep", user="ana")
    '/logs/sweep-7_002.out'
    """
    values: dict[str, int | str] = {
        "j": job_id,
        "A": array_id if array_id is not None else job_id,
        "a": array_index if array_index is not None else 0,
        "x": name,
        "u": user,
        "%": "%",
    }

    def fill(mark: re.Match[str]) -> str:
        if mark[2] not in values:
            raise ValueError(f"{mark[0]!r} is none of %j, %A, %a, %x, %u, %%")
        return str(values[mark[2]]).rjust(int(mark[1] or 0), "0")

    return _MARK.sub(fill, pattern)
