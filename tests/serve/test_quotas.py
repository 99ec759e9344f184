"""Quotas are lent again after the record went back, where the database is; and origins tell their time zones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from keywright.cli.app import app
from keywright.origin.db import tables
from keywright.origin.db.transaction import Database
from keywright.origin.quotas import losses, schedules
from support import service as services
from support.service import Service


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that run here, where a process of their own takes a second, leave its logs and umask alone."""
    for name in [name for name in os.environ if name.startswith("KEYWRIGHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("keywright.serve.commands.configure_logs", lambda *_: None)
    monkeypatch.setattr("os.umask", lambda _mask: 0)


async def test_reopen_says_where_quotas_are_lent_again_and_leaves_an_audit_entry(service: Service) -> None:
    data = ("--data-dir", str(service.settings.data_dir), "--database-url", service.settings.database_url)

    async def reopen(*arguments: str) -> str:
        command = ["quotas", "reopen", *arguments, *data]
        done = await asyncio.to_thread(CliRunner().invoke, app, command)
        assert done.exit_code == (0 if "--yes" in arguments else 1), done.output
        return done.output

    assert "already" in await reopen("--yes")
    async with service.app._database.write() as tx:
        await losses.note_loss(tx, 1, 1)
    assert "--yes" in await reopen()
    assert await is_shut(service.app._database)

    said = await reopen("--yes")
    assert service.bucket in said
    assert not await is_shut(service.app._database)
    entries = (await service.call("GET", f"{service.account_url}/audit-logs"))["data"]
    reopened = [entry for entry in entries if entry["action"] == "quota.reopen"]
    assert [resource["id"] for entry in reopened for resource in entry["resources"]].count(service.bucket) == 1


async def test_origin_tells_the_edition_of_its_time_zones(tmp_path: Path) -> None:
    async with services.running(services.settings_for(tmp_path / "data")) as service:
        told = await service.call("GET", "/readyz")
    assert told["time_zones"] == schedules.edition() != schedules.UNKNOWN_EDITION


async def is_shut(database: Database) -> bool:
    async with database.read() as tx:
        rows = await tx.all(sa.select(tables.quota_losses.c.is_reopened))
    return not all(row.is_reopened for row in rows)
