"""The last words of a start in a terminal: where the page is, and what to type next. Pure."""

from __future__ import annotations

import msgspec


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What a started daemon is. `page` is a link that signs in to the page, None while TCP is off."""

    version: str
    gpus: int
    simulated: bool
    socket: str
    found_by_itself: bool
    page: str | None
    config_file: str


def announcement(started: Started) -> str:
    """The text for a terminal: a line each for what it has, the page, and the next commands."""
    kind = "simulated GPU" if started.simulated else "GPU"
    count = f"{started.gpus or 'no'} {kind}{'' if started.gpus == 1 else 's'}"
    host = "" if started.found_by_itself else f"export LEPTOND_HOST=unix://{started.socket}\n  "
    gpu = "--gpus 1 " if started.gpus else ""
    later = "\n  (this link signs in once, within two minutes; leptonctl dashboard makes another)"
    page = f"{started.page}{later}" if started.page else None
    page = page or f"off (leptond run --listen 127.0.0.1:8370, or listen in {started.config_file})"
    return f"""
leptond {started.version} is ready, with {count}. Ctrl-C ends it; jobs that run go on.
The page: {page}
Next, in another terminal:
  {host}leptonctl submit {gpu}-n first -- python train.py
  leptonctl logs -f first
  leptonctl doctor
"""
