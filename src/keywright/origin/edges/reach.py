"""Owns which edges a write concerns: those that may know the bucket, or the management key, that it changed.

What an edge may know is said in scopes.py. What it may *still* know, because it has not heard yet that a bucket is not
shared with its account any more, is said by withdrawals, which are kept for good. So who waits asks once the change is
committed: whoever could see it by then sees it now, or has been withdrawn it since.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from keywright.domain.permissions import SYSTEM_BUCKET, Grantee
from keywright.origin.db.snapshot_stream import list_bucket_puts
from keywright.origin.db.transaction import Transaction
from keywright.origin.edges import store as rows
from keywright.origin.edges.scopes import DEPLOYMENT, EdgeScope, HeldScopes, may_validate
from keywright.origin.edges.store import Withdrawal
from keywright.protocol.changes import BucketPut, Change, ConsumerPut, KeyDelete, KeyPut, PlanDelete, PlanPut


@dataclass(frozen=True, slots=True)
class Touched:
    """What a write changed, or left as it was asked to be: records of before and of after.

    `account_id` is the account that it was aimed at, which counts where it touched nothing that edges know of.
    """

    records: tuple[Change, ...]
    account_id: str | None = None
    is_everything: bool = False

    @classmethod
    def by(cls, tx: Transaction, account_id: str | None) -> Touched:
        return cls(tx.touched, account_id)

    @property
    def bucket_numbers(self) -> set[int]:
        inside = ConsumerPut | KeyPut | KeyDelete | PlanPut | PlanDelete
        held = (one.bucket_number for one in self.records if isinstance(one, inside))
        return {*held, *(one.number for one in self.records if isinstance(one, BucketPut))}

    def list_grantees(self, system: set[int]) -> list[Grantee]:
        """Whose management keys: consumers of the buckets with these numbers."""
        puts = (one for one in self.records if isinstance(one, ConsumerPut) and one.bucket_number in system)
        return [Grantee.from_json(json.loads(put.metadata)) for put in puts]


EVERYTHING = Touched((), is_everything=True)


@dataclass(frozen=True, slots=True)
class Reach:
    """The edges that a write concerns. Those of the deployment always do, since they know everything."""

    is_everybody: bool = False
    account_ids: frozenset[str] = frozenset()
    """Accounts all of whose edges are meant."""
    buckets: Sequence[BucketPut] = ()
    grantees: Sequence[Grantee] = ()
    shared: Sequence[BucketPut] = ()
    """What other accounts share with those of the grantees, or they with others."""
    withdrawals: Sequence[Withdrawal] = ()

    def includes(self, account_id: str, scopes: HeldScopes, revision: int) -> bool:
        """Whether it concerns an edge of this account which has applied all up to this revision."""
        if self.is_everybody or account_id == DEPLOYMENT or account_id in self.account_ids:
            return True
        if any(self._may_still_see(one, account_id) for one in self.withdrawals if revision < one.revision):
            return True
        return any(self._is_seen(scope) for scope in scopes.at(revision))

    def _is_seen(self, scope: EdgeScope) -> bool:
        if any(scope.view(bucket) is not None for bucket in self.buckets):
            return True
        return any(self._is_key_seen(grantee, scope) for grantee in self.grantees)

    def _is_key_seen(self, grantee: Grantee, scope: EdgeScope) -> bool:
        seen = [(bucket, view) for bucket in self.shared if (view := scope.view(bucket)) is not None]
        if scope.is_earlier:
            is_related = grantee.account_id == scope.account_id or any(may_validate(grantee, one) for one, _ in seen)
            return grantee.is_root or is_related
        return scope.view_key(grantee, [view for _, view in seen]) is not None

    def _may_still_see(self, withdrawal: Withdrawal, account_id: str) -> bool:
        if withdrawal.account_id == account_id and any(one.bucket_id == withdrawal.bucket_id for one in self.buckets):
            return True
        parted = {withdrawal.owner_id, withdrawal.account_id}
        return any(parted == {account_id, grantee.account_id} for grantee in self.grantees)


EVERYBODY = Reach(is_everybody=True)


async def find_reach(tx: Transaction, touched: Touched) -> Reach:
    """Whom a write concerns that is committed."""
    if touched.is_everything:
        return EVERYBODY
    numbers = touched.bucket_numbers
    present = await list_bucket_puts(tx, numbers)
    former = [one for one in touched.records if isinstance(one, BucketPut)]
    if not numbers <= {put.number for put in (*present, *former)}:
        # Deleted since, by somebody else: who could see it is not known any more.
        return EVERYBODY
    system = {put.number for put in present if put.name == SYSTEM_BUCKET}
    grantees = touched.list_grantees(system)
    if system and not grantees:
        return EVERYBODY
    buckets = [put for put in (*former, *present) if put.number not in system]
    account_ids = {grantee.account_id for grantee in grantees}
    return Reach(
        account_ids=_only(touched.account_id) if not (buckets or grantees) else frozenset(),
        buckets=buckets,
        grantees=grantees,
        shared=await list_bucket_puts(tx, await rows.list_shared_numbers(tx, account_ids)) if account_ids else (),
        withdrawals=await rows.list_withdrawals(tx, {put.bucket_id for put in buckets}, account_ids),
    )


def _only(account_id: str | None) -> frozenset[str]:
    return frozenset() if account_id is None else frozenset({account_id})
