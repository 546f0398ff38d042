"""Where this leptond was installed from, as pip takes it again."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

CHECKOUT = "DIRECTORY-OF-A-CHECKOUT"


def requirement() -> str:
    """Return what to give to ``pip install`` for the same leptond: a directory, a file, or the address of a
    repository with its commit; CHECKOUT where it is not known. Never its name alone: no package index has
    leptond, and whoever takes that name there is someone else."""
    top = Path(__file__).parents[2]
    if (top / "pyproject.toml").is_file():
        return shlex.quote(str(top))
    try:
        text = metadata.distribution("leptond").read_text("direct_url.json")
        return from_direct_url(json.loads(text or ""))
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return CHECKOUT


def from_direct_url(found: dict[str, object]) -> str:
    """Return the requirement of a ``direct_url.json`` (PEP 610). Raises KeyError, TypeError.

    >>> from_direct_url({"url": "file:///src/leptond", "dir_info": {}})
    '/src/leptond'
    """
    url = str(found["url"])
    if urlsplit(url).scheme == "file":
        return shlex.quote(unquote(urlsplit(url).path))
    vcs = found.get("vcs_info")
    if isinstance(vcs, dict):
        return shlex.quote(f"{vcs['vcs']}+{url}@{vcs['commit_id']}")
    return shlex.quote(url)
