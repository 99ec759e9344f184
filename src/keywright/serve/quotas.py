"""Owns having quotas lent again after the record went back to an earlier state."""

from __future__ import annotations

from keywright.origin.accounts import store as account_rows
from keywright.origin.quotas import losses
from keywright.runtime.settings import OriginSettings
from keywright.serve import maintenance


async def reopen(settings: OriginSettings) -> list[str]:
    """The names of the buckets that lend again, and did not. Raises StartError."""
    async with maintenance.writing(settings, "quota.reopen", "quotas") as work:
        names = await losses.reopen(work.tx)
        # The log of the first account has what concerns the deployment.
        first = await account_rows.find_first(work.tx)
        work.audit_draft.account_id = first.id if first and names else None
        for name in names:
            work.audit_draft.concerns("bucket", name)
    return names
