"""What test_logging.py puts on the path of a real service, so that secrets reach its log in every way that there is.

Python imports it at the start of each process of that service.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from typing import Any

SECRETS = json.loads(os.environ["LEAKED"])


def leak() -> None:
    """As soon as logs are set up: in the message, in arguments, in an exception and its cause, in extra fields."""
    while not logging.getLogger().handlers:
        time.sleep(0.01)
    log = logging.getLogger("leaking")
    extra: dict[str, Any] = {
        "url": SECRETS["url"],
        "sent": {"headers": [(b"keywright-token", SECRETS["bare"].encode())]},
    }
    log.info("MESSAGE " + SECRETS["key"], extra=extra)
    log.info("ARGUMENT %s and %r", SECRETS["bearer"], {"keywright-token": SECRETS["bare"]})
    log.info("LINES of\n%s and\n%s", SECRETS["key"], SECRETS["bearer"])
    try:
        try:
            raise ValueError("CAUSE " + SECRETS["url"])
        except ValueError as cause:
            raise RuntimeError("EXCEPTION " + SECRETS["key"]) from cause
    except RuntimeError:
        log.exception("FAILED", stack_info=True)


async def livez(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("UNHANDLED " + SECRETS["key"] + " " + SECRETS["bearer"])


def begin() -> None:
    threading.Thread(target=leak, daemon=True).start()


if any(one in sys.argv for one in ("serve", "edge")):
    from keywright.edge.app import EdgeApp

    find_endpoint = EdgeApp.find_endpoint
    # Where nobody but the server is left to log what was not handled.
    EdgeApp.find_endpoint = lambda self, path: livez if path == "/livez" else find_endpoint(self, path)  # type: ignore[method-assign]
    begin()
    # Workers are forked, and no thread goes with them.
    os.register_at_fork(after_in_child=begin)
