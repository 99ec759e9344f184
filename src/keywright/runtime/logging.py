"""Owns logs: one line each to standard error, as text or as JSON, without secrets (redaction.py) in either.

Everything goes this way, the libraries' logs and the server's included: handlers are at the root alone.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from keywright.runtime.redaction import redact, redact_value

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered, where there is one: JSON logs have it in each line."""

SERVER_LOGS: dict[str, Any] = {
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}, "granian.access": {"handlers": [], "propagate": True}},
}
"""For Granian, whose loggers would else have handlers of their own, past the redactor."""


class RedactingFormatter(logging.Formatter):
    """Text, without the secrets in it: in message, arguments, exception and stack alike."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure_logs(level: str, log_format: str) -> None:
    """Sends the logs of this process to standard error, from `level` up, as `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json_formatter() if log_format == "json" else RedactingFormatter(TEXT_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Alembic's notes on each start are of no use to who runs the service.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # At its debug level this driver logs every statement with its values.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    # The pool reports connections that a restarted database closed as errors with tracebacks; callers hear of them.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    # A line for each request that an edge makes; what matters of them the follower says.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


def _json_formatter() -> logging.Formatter:
    """One JSON object on each line: event, level, logger, timestamp, and what else the record has."""
    # Loaded for those who want it: with what it brings along it takes a quarter of a second.
    from structlog.processors import JSONRenderer, StackInfoRenderer, TimeStamper, format_exc_info
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    return ProcessorFormatter(
        foreign_pre_chain=[add_logger_name, add_log_level, ExtraAdder(), TimeStamper(fmt="iso", utc=True)],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            StackInfoRenderer(),
            format_exc_info,
            _add_request_id,
            # Before the renderer: in JSON a line break ends in a letter, which would hide where a secret begins.
            _redact_event,
            JSONRenderer(),
        ],
    )


def _add_request_id(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    current = request_id.get()
    if current is not None:
        event.setdefault("request_id", current)
    return event


def _redact_event(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    redacted = redact_value(dict(event))
    assert isinstance(redacted, dict)  # noqa: S101
    return redacted
