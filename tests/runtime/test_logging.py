"""The log of a real service holds no secret, whatever reaches it, as text and as JSON."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from keywright.runtime import logging as logs
from support.process import NO_TLS, BrokerEdgeProcess, ServeProcess, until

LEAKING = Path(__file__).parent / "leaking"
SECRETS = {
    "key": "acme9_d67b7e241bb948758f415b79aa8ec822_2efb7009",
    "bearer": "Authorization: Bearer opaque-bearer-token",
    "bare": "opaque-keywright-token",
    "url": "postgresql://me:opaque-password@db/keywright",
}
HIDDEN = ("d67b7e241bb948758f415b79aa8ec822", "2efb7009", "opaque-")
TOLD = ("MESSAGE", "ARGUMENT", "LINES", "FAILED", "CAUSE", "EXCEPTION", "UNHANDLED")


def start(plane: str, data_dir: Path, log_format: str) -> ServeProcess:
    variables = {
        "PYTHONPATH": str(LEAKING),
        "LEAKED": json.dumps(SECRETS),
        "KEYWRIGHT_LOG_FORMAT": log_format,
        "KEYWRIGHT_LOG_LEVEL": "debug",
    }
    if plane == "serve":
        return ServeProcess(data_dir, **variables)
    pepper = data_dir.with_name("pepper.key")
    pepper.write_text(base64.b64encode(bytes(32)).decode())
    pepper.chmod(0o600)
    return BrokerEdgeProcess(data_dir, "nats://127.0.0.1:1", pepper, **variables)


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("plane", ["serve", "edge"])
def test_no_secret_gets_into_the_log_of_a_real_process(plane: str, log_format: str, tmp_path: Path) -> None:
    with start(plane, tmp_path / "data", log_format) as process:
        until(lambda: _status_of(process, "/livez") == 500, timeout=90)
        # The worker's own, and those of the process that looks after it.
        until(lambda: all(process.output().count(word) >= 2 for word in ("MESSAGE", "FAILED")), timeout=30)
        until(lambda: "UNHANDLED" in process.output())
        process.stop()
        text = process.output()
    assert all(word in text for word in TOLD)
    assert [word for word in HIDDEN if word in text] == []
    # What stands beside a secret is left: the log is still of use.
    assert "postgresql://me:****@db/keywright" in text


def test_json_logs_have_one_object_on_each_line(tmp_path: Path) -> None:
    with start("serve", tmp_path / "data", "json") as process:
        until(lambda: _status_of(process, "/livez") == 500, timeout=90)
        until(lambda: "UNHANDLED" in process.output() and process.output().count("FAILED") >= 2)
        process.stop()
        lines = process.output().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert all({"event", "level", "logger", "timestamp"} <= set(record) for record in records)
    # What is printed for people, the banner, is all that is not JSON; a traceback would have many lines.
    assert not [line for line in lines if "Traceback" in line and not line.startswith("{")]
    assert {record["logger"].partition(".")[0] for record in records} >= {"leaking", "_granian"}
    extra = next(record for record in records if record["event"].startswith("MESSAGE"))
    assert (extra["url"], extra["sent"]) == (
        "postgresql://me:****@db/keywright",
        {"headers": [["b'keywright-token'", "****"]]},
    )


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:], logger.level = handlers, level


def test_json_logs_have_the_request_id_where_there_is_one(root: logging.Logger) -> None:
    logs.configure_logs("info", "json")
    written = io.StringIO()
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    logging.getLogger("test").info("without")
    token = logs.request_id.set("request-1")
    logging.getLogger("test").info("within")
    logs.request_id.reset(token)
    records: list[dict[str, Any]] = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [record.get("request_id") for record in records] == [None, "request-1"]


def _status_of(process: ServeProcess, path: str) -> int:
    try:
        return int(httpx2.get(f"{process.url}{path}", timeout=2, verify=NO_TLS).status_code)
    except httpx2.TransportError:
        return 0
