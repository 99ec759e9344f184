"""Owns logs: one line each, to standard error. A secret can't get in: what looks like a key is masked on the way."""

from __future__ import annotations

import logging
import re

_KEY = re.compile(r"\b[a-z][a-z0-9]{1,15}_[0-9a-f]{32}_[0-9a-f]{8}\b")
_BEARER = re.compile(r"(?i)\b(bearer\s+|keywright-token\W+)[^\s\"',]+")


class SecretFilter(logging.Filter):
    """Masks, in every record and its traceback, generated keys and whatever stands behind `Bearer`."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = mask_secrets(record.exc_text)
        masked = mask_secrets(message)
        if masked != message:
            record.msg, record.args = masked, None
        return True


def mask_secrets(text: str) -> str:
    return _BEARER.sub(r"\1****", _KEY.sub("****", text))


def configure_logs(level: str) -> None:
    """Sends the logs of this process to standard error, from `level` up."""
    handler = logging.StreamHandler()
    handler.addFilter(SecretFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
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
