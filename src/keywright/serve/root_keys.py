"""Owns making, listing and ending root keys on the machine that holds record and pepper: the way back to a lost one.

It goes on beside the running service, which asks the record at each management request.
"""

from __future__ import annotations

from keywright.domain.models import ManagementKey
from keywright.origin.auth.actors import SYSTEM
from keywright.origin.management_keys import root_keys_rules as rules
from keywright.origin.management_keys.rules import ManagementKeyMade
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.runtime.settings import OriginSettings
from keywright.serve import first_start, maintenance


async def create(settings: OriginSettings, *, account_name: str | None, description: str | None) -> ManagementKeyMade:
    """A new root key and its secret. Raises StartError."""
    async with maintenance.writing(settings, "root-key.create", "root-key") as work:
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
    async with maintenance.writing(settings, "root-key.revoke", "root-key") as work:
        return await rules.revoke(work, key_id)


async def enable(settings: OriginSettings, key_id: str) -> None:
    """Switches a root key on again, good from everywhere. Raises StartError."""
    async with maintenance.writing(settings, "root-key.enable", "root-key") as work:
        await rules.enable(work, key_id)
