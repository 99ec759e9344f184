"""Who sees what of the feed: no record that a reader's permissions don't reach, and all that they do."""

from __future__ import annotations

import json

import pytest

from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.origin.edges.scopes import EdgeScope, may_validate
from keywright.origin.feed.scope_filter import ScopeFilter, ScopeGrew, may_follow, scope_id
from keywright.protocol.changes import (
    BucketDelete,
    BucketPut,
    Change,
    ConsumerDelete,
    ConsumerPut,
    Hidden,
    KeyDelete,
    KeyPut,
)

SYSTEM = BucketPut(1, "bckt_s", "_system", None)
MINE = BucketPut(2, "bckt_m", "mine-bucket", "acct_me")
OTHER = BucketPut(3, "bckt_o", "my-other-bucket", "acct_me")
SHARED = BucketPut(4, "bckt_h", "shared-bucket", "acct_you", {"acct_me": Access.VALIDATE})
FOREIGN = BucketPut(5, "bckt_f", "foreign-bucket", "acct_you")
BUCKETS = [SYSTEM, MINE, OTHER, SHARED, FOREIGN]
DIGEST = bytes(32)

ROOT = Grantee("acct_me", Permissions(account=Access.WRITE, feed=True), is_root=True)


def reader(account: Access = Access.NONE, **buckets: Access) -> Grantee:
    named = {name.replace("_", "-") if name != "all" else "*": access for name, access in buckets.items()}
    return Grantee("acct_me", Permissions(account, named, feed=True))


def consumer(number: int, bucket: BucketPut) -> ConsumerPut:
    return ConsumerPut(number, "csmr_1", bucket.number, "one", "{}")


def manager(number: int, grantee: Grantee) -> ConsumerPut:
    return ConsumerPut(number, "csmr_1", SYSTEM.number, "manager", json.dumps(grantee.to_json()))


def scope_of(grantee: Grantee) -> ScopeFilter:
    seen = ScopeFilter(grantee)
    for put in BUCKETS:
        seen.view(put)
    return seen


READERS = {
    "root": (ROOT, {1, 2, 3, 4, 5}),
    "account-write": (reader(Access.WRITE), {1, 2, 3, 4}),
    "every-bucket": (reader(all=Access.VALIDATE), {1, 2, 3, 4}),
    "one-bucket": (reader(mine_bucket=Access.VALIDATE), {1, 2}),
    "a-shared-bucket": (reader(shared_bucket=Access.WRITE), {1, 4}),
    "a-foreign-bucket": (reader(foreign_bucket=Access.WRITE), {1}),
    "no-bucket": (reader(), {1}),
    "access-none": (reader(mine_bucket=Access.NONE), {1}),
}


@pytest.mark.parametrize(("grantee", "seen"), READERS.values(), ids=READERS)
def test_a_reader_sees_the_records_of_its_buckets_and_no_others(grantee: Grantee, seen: set[int]) -> None:
    fresh = ScopeFilter(grantee)
    assert {put.number for put in BUCKETS if fresh.view(put) is not None} == seen
    for bucket in BUCKETS[1:]:
        is_seen = bucket.number in seen
        key, gone = KeyPut(DIGEST, bucket.number, 7, "key_1", None), KeyDelete(DIGEST, bucket.number)
        for change in (consumer(7, bucket), key):
            assert fresh.view(change) == (change if is_seen else None)
            assert fresh.pass_on(change) == (change if is_seen else Hidden())
        assert fresh.pass_on(gone) == (gone if is_seen else Hidden())


def bare(account: str, *names: str, owned: str | None = None) -> Grantee:
    """A management key of which no more is told than where it may validate."""
    return Grantee(account, Permissions(buckets=dict.fromkeys(names, Access.VALIDATE)), owned_bucket_id=owned)


OWNER = Grantee("acct_you", Permissions(buckets={"shared-bucket": Access.WRITE}), owned_bucket_id="bckt_h")
WIDE = Grantee("acct_you", Permissions(Access.WRITE, {"foreign-bucket": Access.WRITE, "*": Access.READ}, feed=True))
NAMED = Grantee("acct_you", Permissions(buckets={"shared-bucket": Access.WRITE, "foreign-bucket": Access.READ}))
THIRD = Grantee("acct_they", Permissions(Access.WRITE))
NARROW, SHARED_ONLY, WHOLE = (
    reader(mine_bucket=Access.VALIDATE),
    reader(shared_bucket=Access.VALIDATE),
    reader(Access.READ),
)
VIEWS: dict[str, tuple[Grantee, Grantee, Grantee | None]] = {
    "root": (NARROW, ROOT, None),
    "root-for-a-whole-account": (WHOLE, ROOT, None),
    "whole-account": (NARROW, reader(Access.READ), bare("acct_me", "mine-bucket")),
    "whole-account-for-a-whole-account": (WHOLE, reader(Access.WRITE), bare("acct_me", "*")),
    "every-bucket": (NARROW, reader(all=Access.WRITE), bare("acct_me", "mine-bucket")),
    "this-bucket-and-another": (
        NARROW, reader(mine_bucket=Access.WRITE, my_other_bucket=Access.WRITE), bare("acct_me", "mine-bucket")),
    "another-bucket": (NARROW, reader(my_other_bucket=Access.WRITE), None),
    "a-bucket-that-is-yet-to-come": (WHOLE, reader(later_bucket=Access.READ), bare("acct_me", "later-bucket")),
    "nothing": (NARROW, reader(), None),
    "another-account": (NARROW, WIDE, None),
    "whole-account-of-the-owner": (SHARED_ONLY, WIDE, bare("acct_you", "shared-bucket")),
    "two-buckets-of-the-owner": (SHARED_ONLY, NAMED, bare("acct_you", "shared-bucket")),
    "owner-key": (SHARED_ONLY, OWNER, bare("acct_you", "shared-bucket", owned="bckt_h")),
    "owner-key-of-what-is-not-seen": (NARROW, OWNER, None),
    "third-account-that-shares-it": (SHARED_ONLY, THIRD, None),
    "partner-in-my-bucket": (reader(lent_bucket=Access.READ), THIRD, bare("acct_they", "lent-bucket")),
}  # fmt: skip
LENT = BucketPut(6, "bckt_l", "lent-bucket", "acct_me", {"acct_they": Access.READ, "acct_you": Access.WRITE})
SHARED_WITH_MORE = BucketPut(
    4, "bckt_h", "shared-bucket", "acct_you", {"acct_me": Access.READ, "acct_they": Access.WRITE}
)


@pytest.mark.parametrize(("grantee", "key", "shown"), VIEWS.values(), ids=VIEWS)
def test_of_a_management_key_an_edge_is_told_where_it_may_validate_there(
    grantee: Grantee, key: Grantee, shown: Grantee | None
) -> None:
    seen = scope_of(grantee)
    seen.view(LENT)
    seen.view(SHARED_WITH_MORE)
    put, secret = manager(9, key), KeyPut(DIGEST, SYSTEM.number, 9, "key_9", None)
    told = seen.pass_on(put)
    assert seen.view(put) == (None if shown is None else told)
    if shown is None:
        assert (told, seen.pass_on(secret), seen.view(secret)) == (Hidden(), Hidden(), None)
        return
    assert isinstance(told, ConsumerPut)
    assert Grantee.from_json(json.loads(told.metadata)) == shown
    assert ConsumerPut(told.number, told.consumer_id, told.bucket_number, told.name, put.metadata) == put
    assert seen.pass_on(secret) == secret
    assert seen.pass_on(ConsumerDelete(9)) == ConsumerDelete(9)
    assert seen.pass_on(secret) == Hidden()


def test_of_a_shared_bucket_an_edge_is_told_the_owner_and_its_own_grant_and_of_no_other_account() -> None:
    told = scope_of(SHARED_ONLY).view(SHARED_WITH_MORE)
    assert told == BucketPut(4, "bckt_h", "shared-bucket", "acct_you", {"acct_me": Access.READ})
    # Whom it shares its own with, an account knows: their keys may ask its edges.
    assert scope_of(WHOLE).view(LENT) == LENT
    assert scope_of(ROOT).view(SHARED_WITH_MORE) == SHARED_WITH_MORE


@pytest.mark.parametrize(("grantee", "key", "shown"), VIEWS.values(), ids=VIEWS)
def test_what_is_told_of_a_management_key_says_the_same_of_each_bucket_that_is_seen(
    grantee: Grantee, key: Grantee, shown: Grantee | None
) -> None:
    scope = EdgeScope.of(grantee)
    for bucket in [*BUCKETS[1:], LENT, SHARED_WITH_MORE]:
        view = scope.view(bucket)
        if view is not None and not key.is_root and key.account_id in {grantee.account_id, bucket.account_id}:
            assert may_validate(key, bucket) is (shown is not None and may_validate(shown, view)), bucket.name


GRANTS: dict[str, tuple[BucketPut, Change | None]] = {
    "a-foreign-bucket-is-shared": (
        BucketPut(5, "bckt_f", "foreign-bucket", "acct_you", {"acct_me": Access.READ}), None),
    "mine-is-shared-with-others": (BucketPut(2, "bckt_m", "mine-bucket", "acct_me", {"acct_you": Access.READ}), None),
    "mine-is-shared-no-more": (MINE, MINE),
    "a-shared-one-is-withdrawn": (BucketPut(4, "bckt_h", "shared-bucket", "acct_you"), BucketDelete(4)),
    "a-foreign-one-is-shared-elsewhere": (
        BucketPut(5, "bckt_f", "foreign-bucket", "acct_you", {"acct_they": Access.READ}), BucketDelete(5)),
    "mine-is-new": (BucketPut(8, "bckt_n", "new-bucket", "acct_me"), BucketPut(8, "bckt_n", "new-bucket", "acct_me")),
}  # fmt: skip


@pytest.mark.parametrize(("put", "passed"), GRANTS.values(), ids=GRANTS)
def test_a_grant_that_shows_more_asks_for_a_snapshot_and_one_that_shows_less_is_passed_on(
    put: BucketPut, passed: Change | None
) -> None:
    seen = scope_of(reader(all=Access.VALIDATE))
    if passed is None:
        with pytest.raises(ScopeGrew):
            seen.pass_on(put)
        return
    assert seen.pass_on(put) == passed
    is_visible = isinstance(passed, BucketPut)
    assert (seen.pass_on(consumer(7, put)) != Hidden()) is is_visible


def test_a_grant_is_told_from_the_change_alone_when_the_present_knows_it_already() -> None:
    """A reader whose cursor is before the grant connects after it: what it sees now tells nothing of what it has."""
    with pytest.raises(ScopeGrew):
        scope_of(reader(all=Access.VALIDATE)).pass_on(SHARED)
    assert scope_of(ROOT).pass_on(SHARED) == SHARED


def test_keys_that_see_the_same_have_one_scope_and_others_have_another() -> None:
    assert scope_id(ROOT) == "everything"
    assert scope_id(reader(mine_bucket=Access.VALIDATE)) == scope_id(reader(mine_bucket=Access.WRITE))
    scopes = [reader(), reader(Access.READ), reader(all=Access.READ), reader(mine_bucket=Access.READ)]
    assert len({scope_id(one) for one in [*scopes, ROOT]}) == 5


def test_only_root_and_keys_with_feed_may_follow() -> None:
    assert may_follow(ROOT)
    assert may_follow(reader())
    assert not may_follow(Grantee("acct_me", Permissions(Access.WRITE)))
