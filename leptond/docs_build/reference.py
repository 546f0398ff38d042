"""The parts of the documentation and of the page that are made from the program: ``python -m
leptond.docs_build.reference .`` brings them up to date in a checkout, and tests compare."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from leptond import config
from leptond.core.jobs.states import attempt_diagram, diagram
from leptond.docs_build import architecture, log_events


def http() -> str:
    """docs/http.md."""
    from leptond.api.http import openapi
    from leptond.api.metrics.exposition import Metrics
    from leptond.api.server import all_routes
    from leptond.docs_build import api_reference

    return api_reference.markdown(openapi.document(all_routes(Metrics())))


PARTS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("docs/operations.md", r"### `\[http\]`\n.*?(?=\n## )", config.reference),
    ("docs/operations.md", r"(?<=<!-- log events -->\n).*?(?=\n?<!-- end)", log_events.table),
    ("docs/concepts.md", r"stateDiagram-v2\n    \[\*\] --> pending\n.*?(?=\n```)", diagram),
    ("docs/concepts.md", r"stateDiagram-v2\n    \[\*\] --> starting\n.*?(?=\n```)", attempt_diagram),
    ("docs/architecture.md", r"(?<=<!-- boxes -->\n```mermaid\n).*?(?=\n?```)", architecture.boxes),
    ("docs/architecture.md", r"(?<=<!-- folders -->\n).*?(?=\n?<!-- end)", architecture.rules),
)
"""Files of which a part is generated: what the part looks like, and the function that makes it."""


def files(top: Path) -> dict[str, str]:
    """Every file that is made, or has a part that is, as it should be; by its path in the checkout `top`."""
    from leptond.docs_build import manual, page_fields, typed_fields

    made = {
        "docs/http.md": http(),
        "leptond/api/web/fields.js": page_fields.script(),
        "leptond/client/typed_fields.py": typed_fields.module(),
        **{f"docs/man/{name}": text for name, text in manual.pages().items()},
    }
    for name, pattern, make in PARTS:
        text = made.get(name) or (top / name).read_text()
        found = re.search(pattern, text, re.DOTALL)
        if found is None:
            raise ValueError(f"{name} has no place for what is made")
        ending = "" if text[found.end()] == "\n" else "\n"
        made[name] = text[: found.start()] + make() + ending + text[found.end() :]
    return made


if __name__ == "__main__":
    _top = Path(sys.argv[1])
    for _name, _text in files(_top).items():
        (_top / _name).write_text(_text)
