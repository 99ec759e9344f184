"""Owns the end of an edge that only fell silent: it is retired, and the audit log says so."""

from __future__ import annotations

from datetime import UTC, datetime

from keywright.origin.accounts import store as account_rows
from keywright.origin.audit import rules as audit
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges import store as rows
from keywright.origin.edges.rules import REFUSAL_MARGIN_SECONDS
from keywright.origin.edges.store import Heard
from keywright.origin.pipeline.unit_of_work import AuditDraft


async def retire_silent(tx: Transaction, seconds: float) -> list[Heard]:
    """Take out the edges of which nothing was heard for so long, and leased ones whose lease has run out."""
    retired = await rows.retire_silent(tx, seconds=seconds, margin_seconds=REFUSAL_MARGIN_SECONDS)
    for one in retired:
        # The log of the first account has what concerns the deployment.
        first = None if one.account_id else await account_rows.find_first(tx)
        draft = AuditDraft("edge.retire", one.account_id or (first.id if first else None))
        draft.concerns("edge", one.report.instance, name=one.report.name, silentSeconds=int(one.age))
        await audit.write_by_system(tx, draft, now=datetime.now(UTC))
    return retired
