"""The daemon's own log: text on a terminal, JSON otherwise. The message of a line is a fixed event name
(docs/operations.md lists them); ids, errors and figures are fields. In the systemd journal they are fields of
the entry as well."""

from __future__ import annotations

import logging
import sys

import structlog
import structlog.tracebacks

from leptond.config import LogSettings
from leptond.daemon.journal import journal_renderer

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(settings: LogSettings) -> None:
    """Set up structlog for the whole process; all logs go to standard error."""
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if text:
        shared += [
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                sort_keys=False,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    else:
        # without the values of variables: requests have secrets of users in them
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared += [
            structlog.processors.ExceptionRenderer(tracebacks),
            journal_renderer(structlog.processors.JSONRenderer()),
        ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # aiohttp and asyncio log through the standard library: into the same stream
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True
    )
