"""Rules of root keys for who holds record and pepper: they are beyond the rights of any key, and need none.

Over the API a root key can be seen and ended by another one, and made by none.
"""

from __future__ import annotations

from collections.abc import Sequence

from keywright.domain.models import Account, Consumer, ManagementKey
from keywright.domain.permissions import Access, Grantee
from keywright.domain.problems import NotFound
from keywright.origin.accounts import store as account_rows
from keywright.origin.accounts.access import get_account
from keywright.origin.consumers import store as consumer_rows
from keywright.origin.keys import store as key_rows
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.management_keys import rules
from keywright.origin.management_keys.rules import ManagementKeyMade
from keywright.origin.pipeline.unit_of_work import UnitOfWork

DESCRIPTION = "Root key, made with keywright root-key"


async def create(work: UnitOfWork, account_name: str | None, description: str | None) -> ManagementKeyMade:
    """Another root key, listed in this account, or in the first one."""
    account = await _get_home(work, account_name)
    made, secret = await rules.make_root(work, account, KeyDraft(description or DESCRIPTION))
    work.audit_draft.concerns("management-key", made.key.id, account=account.name)
    return made, secret


async def list_of(work: UnitOfWork) -> list[ManagementKey]:
    """Every root key, newest first."""
    rows = await key_rows.list_root_keys(work.tx)
    return [ManagementKey(row.key, Grantee.from_json(row.consumer_metadata)) for row in rows]


async def revoke(work: UnitOfWork, key_id: str) -> int:
    """Ends a root key, were it the last one, since here another one can be made; how many are left that are on."""
    found = await list_of(work)
    consumer, _ = await _get(work, found, key_id)
    await consumer_rows.delete(work.tx, consumer)
    return sum(root.key.enabled for root in found if root.key.id != key_id)


async def enable(work: UnitOfWork, key_id: str) -> None:
    """Switches a root key on again, and has it be good from everywhere."""
    consumer, root = await _get(work, await list_of(work), key_id)
    await rules.change(work, consumer, root.key, enabled=True, allowed_ips=None)


async def _get(work: UnitOfWork, found: Sequence[ManagementKey], key_id: str) -> tuple[Consumer, ManagementKey]:
    for root in found:
        if root.key.id == key_id:
            account = await account_rows.find_account_by_id(work.tx, root.grantee.account_id)
            if account is not None:
                work.audit_draft.concerns("management-key", key_id, account=account.name)
            work.audit_draft.account_id = root.grantee.account_id
            tagged = await rules.list_tagged(work, "account", root.grantee.account_id)
            (consumer,) = (consumer for consumer, key, _ in tagged if key.id == key_id)
            return consumer, root
    raise NotFound(f"There is no root key with the id {key_id!r}.")


async def _get_home(work: UnitOfWork, name: str | None) -> Account:
    if name is None:
        first = await account_rows.find_first(work.tx)
        if first is None:
            raise NotFound("There is no account.")
        name = first.name
    return await get_account(work, name, Access.WRITE)
