"""Rules of a deployment's own life: the first start, the pepper it was born with, and new master keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from keywright.domain.keyformat import MANAGEMENT_PREFIX, Digester, Secret
from keywright.domain.models import BASE62, IdKind, Project, SelfServe, new_id
from keywright.domain.permissions import SYSTEM_BUCKET
from keywright.origin.accounts import rules as account_rules
from keywright.origin.accounts import store as account_rows
from keywright.origin.audit import rules as audit
from keywright.origin.audit.rules import RequestSource
from keywright.origin.auth.actors import SYSTEM
from keywright.origin.buckets import store as bucket_rows
from keywright.origin.db import migrations
from keywright.origin.db.engine import UniqueViolation
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment, find_deployment_id, insert_deployment
from keywright.origin.keys import store as key_rows
from keywright.origin.keys.rules import KeyDraft
from keywright.origin.keys.vault import KeyRing
from keywright.origin.management_keys import rules as management
from keywright.origin.pipeline.unit_of_work import AuditDraft, Dependencies, UnitOfWork

DEFAULT_ACCOUNT = "my-account"
DEFAULT_PROJECT = "my-project"
RESEAL_PAGE = 500


class WrongPepper(Exception):
    """The pepper is not the one under which the record's digests were made: every key would be unknown."""


class WrongMasterKey(Exception):
    """The record holds data keys that none of the master keys at hand opens; the argument names them."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the first start made; the secret is shown once."""

    account_name: str
    project: Project
    root_key: Secret = field(repr=False)


async def bootstrap(
    database: Database, dependencies: Dependencies, *, account_name: str | None, root_key: Secret | None
) -> Bootstrap | None:
    """Makes the deployment, its first account, project and root key, all at once; None if that was done before."""
    try:
        async with database.write() as tx:
            if await find_deployment(tx) is not None:
                return None
            work = UnitOfWork(tx, SYSTEM, dependencies.clock(), dependencies, AuditDraft("deployment.create"))
            random = dependencies.random_bytes
            deployment_id = "dply_" + "".join(BASE62[byte % 62] for byte in random(24))
            pepper_check = dependencies.digester.pepper_check()
            await insert_deployment(tx, id=deployment_id, pepper_check=pepper_check, now=work.now)
            await bucket_rows.insert(
                tx,
                id=new_id(IdKind.BUCKET, random),
                account=None,
                name=SYSTEM_BUCKET,
                description="Management keys",
                tags={},
                is_retrievable=False,
                key_prefix=MANAGEMENT_PREFIX,
                self_serve=SelfServe(enabled=False),
                now=work.now,
            )
            name = account_name or DEFAULT_ACCOUNT
            id = new_id(IdKind.ACCOUNT, random)
            account = await account_rows.insert_account(tx, id=id, name=name, now=work.now)
            draft = KeyDraft("Root key, made at the first start", custom=root_key)
            _, secret = await management.make_root(work, account, draft)
            project = await account_rules.create_project(work, account.name, name=DEFAULT_PROJECT)
            work.audit_draft.concerns("account", account.id, name=account.name)
            await audit.write(
                tx, actor=SYSTEM, audit_draft=work.audit_draft, source=RequestSource("bootstrap"), now=work.now
            )
            return Bootstrap(account.name, project, secret)
    except UniqueViolation:
        # Two machines started at once on one database: the other one was first.
        return None


async def check_keys(database: Database, digester: Digester, ring: KeyRing) -> None:
    """Raises WrongPepper or WrongMasterKey when this process could not do its work on the record."""
    async with database.read() as tx:
        deployment = await find_deployment(tx)
        if deployment is None:
            return
        if deployment.pepper_check != digester.pepper_check():
            raise WrongPepper
        missing = await bucket_rows.list_master_key_ids(tx) - set(ring.keys)
        if missing:
            raise WrongMasterKey(", ".join(sorted(missing)))


async def find_id(database: Database) -> str | None:
    """The id of the deployment, whatever the schema; None where there is none yet."""
    if await migrations.get_version(database) is None:
        return None
    async with database.read() as tx:
        return await find_deployment_id(tx)


async def is_known_root(database: Database, digester: Digester, secret: Secret) -> bool:
    """Whether a management key of this value exists."""
    async with database.read() as tx:
        return await key_rows.find_management_key_by_digest(tx, digester.digest(secret.reveal())) is not None


async def reseal(database: Database, dependencies: Dependencies, active_id: str) -> int:
    """Seals every data key under the active master key, page by page beside running traffic; how many there were."""
    count = 0
    while True:
        async with database.write() as tx:
            rows = await bucket_rows.list_data_keys_not_under(tx, active_id, limit=RESEAL_PAGE)
            for row in rows:
                id, sealed = dependencies.vault.reseal_data_key(row.id, row.master_key_id, row.sealed_data_key)
                await bucket_rows.set_data_key(tx, row.number, master_key_id=id, sealed=sealed)
        count += len(rows)
        if not rows:
            return count


async def when_only_needed(
    database: Database, dependencies: Dependencies, active_id: str, then: Callable[[], None]
) -> None:
    """Calls `then` at a moment when no data key needs another master key than the active one, nor can come to.

    Whoever makes a bucket inserts its row before it seals its data key. So, with the table locked, every one of them
    has either committed and is seen here, or will read the ring after `then` has changed it.
    """
    while True:
        async with database.write() as tx:
            await bucket_rows.lock_all(tx)
            if await bucket_rows.list_master_key_ids(tx) <= {active_id}:
                then()
                return
        await reseal(database, dependencies, active_id)
