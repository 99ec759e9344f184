"""Rules of the audit log: every change leaves an entry, and so does every attempt that was refused."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from keywright.domain.keyformat import Digester, is_valid_custom, mask, mask_in
from keywright.domain.paging import Page
from keywright.domain.permissions import Access
from keywright.origin.accounts.access import get_account
from keywright.origin.audit import store as rows
from keywright.origin.audit.store import AuditFilter
from keywright.origin.auth.actors import EMAIL_LINK_ISSUER, SYSTEM, Actor
from keywright.origin.db.transaction import Transaction
from keywright.origin.keys import store as key_rows
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork

__all__ = ["AuditEntry", "AuditFilter", "RequestSource", "list_of", "without_known_keys", "write"]

MAX_WORDS = 32
"""Of an address, looked for among the keys. No address of ours has as many."""


@dataclass(frozen=True, slots=True)
class RequestSource:
    """Where a request came from, for the audit log."""

    request_id: str
    address: str | None = None
    user_agent: str | None = None
    method: str | None = None
    url: str | None = None
    source: str = "api"
    """What it came in by: `api` or `portal`."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`body` holds actor, resources, context, route and error in the shape of the published API."""

    action: str
    timestamp: datetime
    request_id: str
    success: bool
    body: Mapping[str, Any]


async def write(
    tx: Transaction,
    *,
    actor: Actor,
    audit_draft: AuditDraft,
    source: RequestSource,
    now: datetime,
    error: str | None = None,
) -> None:
    """Logs what was tried: in its own transaction when it succeeded, in a later one when it was refused (`error`).

    An attempt on an account that does not exist has no log to stand in, and is left out.
    """
    if audit_draft.account_id is None or audit_draft.action is None:
        return
    # What another account says of its key is not for this account to read.
    is_own = actor.grantee.is_root or actor.grantee.account_id == audit_draft.account_id
    description = actor.description if is_own else None
    metadata = {"description": description} if description else {}
    if actor.issuer not in {None, EMAIL_LINK_ISSUER}:
        # Two providers may give two people the same subject.
        metadata["issuer"] = actor.issuer
    await rows.insert_audit(
        tx,
        account_id=audit_draft.account_id,
        timestamp=now,
        action=audit_draft.action,
        actor_sub=actor.sub,
        actor_email=actor.email,
        success=error is None,
        request_id=mask_in(source.request_id),
        body={
            "actor": {
                "sub": actor.sub,
                "email": actor.email,
                "type": actor.kind.value,
                "connection": actor.connection,
                "actingAs": None,
                "metadata": metadata or None,
            },
            "resources": audit_draft.resources,
            "context": {
                "ipAddress": source.address,
                "userAgent": source.user_agent and mask_in(source.user_agent),
                **dict.fromkeys(("country", "region", "city", "postalCode", "metroCode", "asOrg")),
            },
            "route": {
                "source": source.source,
                "url": source.url and _without_secrets(source.url),
                "method": source.method,
            },
            "error": error,
        },
    )


async def write_by_system(tx: Transaction, audit_draft: AuditDraft, *, now: datetime) -> None:
    """Logs what the service did by itself, as no request asked for it."""
    source = RequestSource(secrets.token_hex(16), source="system")
    await write(tx, actor=SYSTEM, audit_draft=audit_draft, source=source, now=now)


async def without_known_keys(
    tx: Transaction, digester: Digester, account_id: str, source: RequestSource, error: str
) -> tuple[RequestSource, str]:
    """A refused request as it may be logged: without keys of the account that stand where a name belongs.

    A key that was brought along has no form of its own; that it is one, only its digest tells.
    """
    url, request_id = unquote(source.url or ""), source.request_id
    words = [word for word in {*url.split("/"), request_id} if is_valid_custom(word)]
    by_digest = {digester.digest(word): word for word in words[:MAX_WORDS]}
    known = await key_rows.find_digests(tx, account_id, list(by_digest)) if by_digest else set()
    for secret in (by_digest[digest] for digest in known):
        url, request_id, error = (text.replace(secret, mask("")) for text in (url, request_id, error))
    return (replace(source, url=url, request_id=request_id), error) if known else (source, error)


_ID = re.compile(r"[a-z]+_[0-9A-Za-z]{24,32}")
_WORD = re.compile(r"[$]?[A-Za-z0-9_-]{1,128}")
_OF_IDS = frozenset({"keys", "owner-keys", "management-keys", "managers", "invites", "edges"})
"""Behind these an address names one by its id, or has a word of its own such as `new`."""
_WORDS = frozenset({"$bulk", "new"})


def _without_secrets(url: str) -> str:
    """A key that was sent as a part of the path must not stay in the record, however it was encoded.

    A generated one is known by its form. Any other may be a customer's own secret, typed where an id belongs, so what
    stands there and is no id is masked, and so is what can be no name anywhere.
    """
    segments = mask_in(unquote(url)).split("/")
    shown = [
        segment if _is_plain(segment, before) else mask("")
        for before, segment in zip(["", *segments], segments, strict=False)
    ]
    return url if "/".join(shown) == unquote(url) else "/".join(shown)


def _is_plain(segment: str, before: str) -> bool:
    if before in _OF_IDS and segment not in _WORDS:
        return not segment or _ID.fullmatch(segment) is not None
    return not segment or _WORD.fullmatch(segment) is not None


async def list_of(work: UnitOfWork, account_name: str, wanted: AuditFilter, page: Page) -> tuple[list[AuditEntry], int]:
    account = await get_account(work, account_name, Access.READ)
    found, total = await rows.list_audit(work.tx, account.id, wanted, limit=page.limit, offset=page.offset)
    return [AuditEntry(row.action, row.timestamp, row.request_id, row.success, row.body) for row in found], total
