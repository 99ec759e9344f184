"""What a management key may do: one table, and its JSON form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.permissions import EVERY_BUCKET, SYSTEM_BUCKET, Access, Grantee, Permissions

NONE, VALIDATE, READ, WRITE = Access.NONE, Access.VALIDATE, Access.READ, Access.WRITE
ROOT = Grantee("acct_a", Permissions(), is_root=True)


def held(account: Access = NONE, **buckets: Access) -> Grantee:
    return Grantee("acct_a", Permissions(account, {name.replace("_", "-"): how for name, how in buckets.items()}))


EVERY = Grantee("acct_a", Permissions(buckets={EVERY_BUCKET: READ}))
OWNER = Grantee("acct_a", Permissions(buckets={"my-bucket": WRITE}), owned_bucket_id="bckt_1")


@pytest.mark.parametrize(
    ("grantee", "bucket_id", "account_id", "grants", "expected"),
    [
        pytest.param(held(), "bckt_1", "acct_a", {}, NONE, id="nothing held"),
        pytest.param(held(other_bucket=WRITE), "bckt_1", "acct_a", {}, NONE, id="another bucket held"),
        pytest.param(held(WRITE), "bckt_1", "acct_b", {}, NONE, id="all of another account"),
        pytest.param(held(my_bucket=WRITE), "bckt_1", "acct_b", {}, NONE, id="same name in another account"),
        pytest.param(EVERY, "bckt_1", "acct_b", {}, NONE, id="every bucket, but of another account"),
        pytest.param(held(WRITE), "bckt_1", None, {}, NONE, id="the system bucket"),
        pytest.param(held(WRITE), "bckt_1", "acct_b", {"acct_c": WRITE}, NONE, id="shared with somebody else"),
        pytest.param(OWNER, "bckt_2", "acct_a", {}, NONE, id="owner of a bucket whose name was taken by another"),
        pytest.param(OWNER, "bckt_2", "acct_b", {"acct_a": WRITE}, NONE, id="owner key, and a shared bucket"),
        pytest.param(held(my_bucket=VALIDATE), "bckt_1", "acct_a", {}, VALIDATE, id="validate on it"),
        pytest.param(held(READ, my_bucket=WRITE), "bckt_1", "acct_a", {}, WRITE, id="the larger of the two counts"),
        pytest.param(held(WRITE, my_bucket=READ), "bckt_1", "acct_a", {}, WRITE, id="a smaller one takes nothing"),
        pytest.param(EVERY, "bckt_1", "acct_a", {}, READ, id="every bucket"),
        pytest.param(OWNER, "bckt_1", "acct_a", {}, WRITE, id="owner of it"),
        pytest.param(held(WRITE), "bckt_1", "acct_b", {"acct_a": READ}, READ, id="as far as it is shared"),
        pytest.param(held(my_bucket=READ), "bckt_1", "acct_b", {"acct_a": WRITE}, READ, id="no further than held"),
        pytest.param(held(), "bckt_1", "acct_b", {"acct_a": WRITE}, NONE, id="shared, but nothing held"),
        pytest.param(ROOT, "bckt_1", "acct_b", {}, WRITE, id="root"),
    ],
)
def test_access_to_a_bucket(
    grantee: Grantee, bucket_id: str, account_id: str | None, grants: dict[str, Access], expected: Access
) -> None:
    found = grantee.on_bucket(bucket_id=bucket_id, bucket_name="my-bucket", account_id=account_id, grants=grants)
    assert found is expected


@pytest.mark.parametrize(
    ("grantee", "account_id", "expected"),
    [
        (held(), "acct_a", NONE),
        (held(READ), "acct_a", READ),
        (held(WRITE), "acct_b", NONE),
        (EVERY, "acct_a", NONE),
        (OWNER, "acct_a", NONE),
        (ROOT, "acct_b", WRITE),
    ],
)
def test_access_to_an_account(grantee: Grantee, account_id: str, expected: Access) -> None:
    assert grantee.on_account(account_id) is expected


FEED = Permissions(feed=True)


@pytest.mark.parametrize(
    ("mine", "asked", "is_included"),
    [
        (Permissions(), Permissions(READ), False),
        (Permissions(READ), Permissions(WRITE), False),
        (Permissions(READ), FEED, False),
        (Permissions(buckets={"my-bucket": WRITE}), Permissions(buckets={"other": VALIDATE}), False),
        (Permissions(buckets={"my-bucket": WRITE}), Permissions(buckets={EVERY_BUCKET: VALIDATE}), False),
        (Permissions(buckets={EVERY_BUCKET: WRITE}), Permissions(READ), False),
        (Permissions(buckets={EVERY_BUCKET: READ}), Permissions(buckets={"my-bucket": WRITE}), False),
        (Permissions(), Permissions(), True),
        (FEED, FEED, True),
        (Permissions(WRITE), FEED, True),
        (Permissions(WRITE), Permissions(WRITE, {EVERY_BUCKET: WRITE, "x": READ}, feed=True), True),
        (Permissions(buckets={EVERY_BUCKET: READ}), Permissions(buckets={"my-bucket": READ}), True),
    ],
    ids=lambda value: repr(value) if isinstance(value, bool) else json.dumps(value.to_json()),
)
def test_nobody_hands_on_more_than_they_hold(mine: Permissions, asked: Permissions, is_included: bool) -> None:
    assert mine.includes(asked) is is_included


ACCESS = st.sampled_from(Access)
PERMISSIONS = st.builds(Permissions, ACCESS, st.dictionaries(st.text(max_size=9), ACCESS, max_size=4), st.booleans())


@given(PERMISSIONS)
def test_permissions_include_themselves_and_survive_json(permissions: Permissions) -> None:
    assert permissions.includes(permissions)
    assert Permissions.from_json(json.loads(json.dumps(permissions.to_json()))) == permissions


@given(PERMISSIONS, PERMISSIONS, st.text(max_size=9))
def test_what_is_included_reaches_no_bucket_further(mine: Permissions, asked: Permissions, bucket: str) -> None:
    if mine.includes(asked):
        assert asked.on_bucket(bucket) <= mine.on_bucket(bucket)
        assert asked.account <= mine.account


@given(st.builds(Grantee, st.text(), PERMISSIONS, st.booleans(), st.none() | st.text()))
def test_a_grantee_survives_json(grantee: Grantee) -> None:
    assert Grantee.from_json(json.loads(json.dumps(grantee.to_json()))) == grantee


@pytest.mark.parametrize("value", [{}, {"account": "acct_a"}, {"account": "a", "permissions": {"account": "all"}}])
def test_metadata_that_is_no_grantee_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(LookupError):
        Grantee.from_json(value)


def test_no_name_that_the_api_accepts_is_the_system_buckets() -> None:
    assert SYSTEM_BUCKET.startswith("_")
    assert [Access.of(access.label) for access in Access] == list(Access)
