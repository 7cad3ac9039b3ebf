"""Structured logs: JSON lines where nobody watches, readable lines on a terminal; always on stderr.

The ledger, not the log, is the record. JSON escapes control characters, so that a label cannot forge a line.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure() -> None:
    """Set up structlog for this process, and let the libraries' own logs through from WARNING on."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def quiet() -> None:
    """Let only warnings through, on stderr: for commands whose output is a table, and where a cycle is not an event."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
