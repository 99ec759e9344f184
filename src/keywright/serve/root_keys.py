"""Owns making, listing and ending root keys on the machine that holds record and pepper: the way back to a lost one.

It goes on beside the running service, which asks the record at each management request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keywright.domain.models import ManagementKey
from keywright.domain.problems import Problem
from keywright.origin.audit import rules as audit
from keywright.origin.audit.rules import RequestSource
from keywright.origin.auth.actors import SYSTEM
from keywright.origin.management_keys import root_keys_rules as rules
from keywright.origin.management_keys.rules import ManagementKeyMade
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.runtime.server import StartError
from keywright.runtime.settings import OriginSettings
from keywright.serve import first_start


async def create(settings: OriginSettings, *, account_name: str | None, description: str | None) -> ManagementKeyMade:
    """A new root key and its secret. Raises StartError."""
    async with _writing(settings, "root-key.create") as work:
        return await rules.create(work, account_name, description)


async def list_of(settings: OriginSettings) -> list[ManagementKey]:
    """Every root key, newest first. Raises StartError."""
    async with first_start.reading(settings) as database:
        dependencies = first_start.make_dependencies(settings)
        await first_start.check_keys(database, settings, dependencies.digester)
        async with database.read() as tx:
            return await rules.list_of(UnitOfWork(tx, SYSTEM, dependencies.clock(), dependencies, AuditDraft(None)))


async def revoke(settings: OriginSettings, key_id: str) -> int:
    """Ends a root key; how many are left. Raises StartError."""
    async with _writing(settings, "root-key.revoke") as work:
        return await rules.revoke(work, key_id)


async def enable(settings: OriginSettings, key_id: str) -> None:
    """Switches a root key on again, good from everywhere. Raises StartError."""
    async with _writing(settings, "root-key.enable") as work:
        await rules.enable(work, key_id)


@asynccontextmanager
async def _writing(settings: OriginSettings, action: str) -> AsyncIterator[UnitOfWork]:
    async with first_start.reading(settings) as database:
        dependencies = first_start.make_dependencies(settings)
        # With another pepper a new key would be known to nobody.
        await first_start.check_keys(database, settings, dependencies.digester)
        async with database.write() as tx:
            work = UnitOfWork(tx, SYSTEM, dependencies.clock(), dependencies, AuditDraft(action))
            try:
                yield work
            except Problem as problem:
                raise StartError((problem.detail or str(problem)).removesuffix(".")) from None
            source = RequestSource("root-key", source="cli")
            await audit.write(tx, actor=SYSTEM, audit_draft=work.audit_draft, source=source, now=work.now)
