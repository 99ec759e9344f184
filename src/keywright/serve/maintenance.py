"""Owns changing the record on its own machine, beside the running service: with pepper and database, and no key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keywright.domain.problems import Problem
from keywright.origin.audit import rules as audit
from keywright.origin.audit.rules import RequestSource
from keywright.origin.auth.actors import SYSTEM
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.runtime.server import StartError
from keywright.runtime.settings import OriginSettings
from keywright.serve import first_start


@asynccontextmanager
async def writing(settings: OriginSettings, action: str, command: str) -> AsyncIterator[UnitOfWork]:
    """One transaction, with its entry in the audit log. Raises StartError."""
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
            source = RequestSource(command, source="cli")
            await audit.write(tx, actor=SYSTEM, audit_draft=work.audit_draft, source=source, now=work.now)
