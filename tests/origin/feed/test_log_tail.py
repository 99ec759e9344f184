"""Where commits are heard, a notification alone wakes another origin's replica and the streams that it sends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from keywright.origin.db import commit_listener
from keywright.protocol.changes import KeyPut
from origin.feed.test_http_endpoint import cursor_of, opened
from support import service as services
from support.postgres import Postgres


async def test_a_commit_at_one_origin_wakes_the_replica_and_the_streams_of_another(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who waits for a poll waits too long.
    monkeypatch.setattr(commit_listener, "SLOW_POLL_SECONDS", 3600.0)
    url = postgres.new_database()
    at_one = services.settings_for(tmp_path / "one", url)
    files = {"pepper_file": at_one.pepper_file, "master_key_file": at_one.master_key_file}
    at_other = services.settings_for(tmp_path / "other", url, **files)
    async with services.running(at_one) as one, services.running(at_other) as other:
        async with asyncio.timeout(60):
            while not (one.app._database.commits.is_listening and other.app._database.commits.is_listening):
                await asyncio.sleep(0.01)
            consumer = await one.new_consumer()
            async with opened(other, "/v1/feed/changes", f"after={await cursor_of(other)}") as stream:
                assert await stream.next() is not None
                # The first may be met by a poll of before commits were heard; not the others.
                for _ in range(3):
                    key = await one.new_key(consumer["name"])
                    while await other.verdict(key["key"]) != "VALID":
                        await asyncio.sleep(0.01)
                    while (frame := await stream.next()) is not None and not frame.changes:
                        pass
                    assert frame is not None
                    assert isinstance(frame.changes[-1], KeyPut)
