"""Which edges a write waits for: those that may know what it changed, and those that may know it still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.origin.edges.reach import EVERYBODY, Reach
from keywright.origin.edges.scopes import EVERYTHING, MOST_EARLIER, EdgeScope, HeldScopes
from keywright.origin.edges.store import Withdrawal
from keywright.protocol.changes import BucketPut, Cursor
from keywright.protocol.reports import EdgeState
from support.reports import report_of, tell
from support.service import Service

OTHER = "my-project-preview"
FOLLOWING = {"mine": {"*": "validate"}, "narrow": {OTHER: "validate"}, "theirs": {"*": "validate"}}


@dataclass
class World:
    """A service with edges far away that know all that was before, and hear nothing of what comes.

    `mine` sees every bucket of the account, `narrow` another one than that of the tests; `theirs` is a partner's.
    """

    service: Service
    tokens: dict[str, str]
    before: Cursor

    async def pending(self, method: str, url: str, body: Any = None) -> set[str]:
        """Who has not applied a write, of those that it waits for."""
        answer = await self.service.client.request(method, f"{url}?wait=all&timeout=300", json=body)
        assert answer.is_success, answer.text
        return set(filter(None, answer.headers.get("keywright-pending", "").split(", ")))

    async def tell(self, name: str, *, at: Cursor | None = None, token: str | None = None, start: str = "0") -> None:
        report = report_of(self.service, name, cursor=at or self.before, start=start * 16)
        await tell(self.service, report, token or self.tokens[name])

    async def call(self, method: str, url: str, body: Any = None, expect: int | None = None) -> Any:
        more = {} if expect is None else {"expect": expect}
        return await self.service.call(method, url, json=body, **more)

    async def new_key(self) -> str:
        consumer = (await self.service.new_consumer())["name"]
        return f"{self.service.consumers_url}/{consumer}/keys/{(await self.service.new_key(consumer))['id']}"

    async def new_management_key(self, account: str, /, **permissions: Any) -> str:
        keys = f"/v1/accounts/{account}/management-keys"
        return f"{keys}/{(await self.call('POST', keys, {'permissions': permissions}))['id']}"

    async def share(self) -> str:
        grants = f"{self.service.bucket_url}/grants"
        await self.call("POST", grants, {"account": "partner", "access": "validate"})
        return f"{grants}/partner"


@pytest.fixture
async def world(service: Service) -> World:
    await service.call("POST", "/v1/accounts", json={"name": "partner"})
    tokens = {
        name: await service.new_management_key("partner" if name == "theirs" else None, buckets=buckets, feed=True)
        for name, buckets in FOLLOWING.items()
    }
    cursor = service.app._replica.cursor
    assert cursor is not None
    made = World(service, tokens, cursor)
    for name in FOLLOWING:
        # It begins with nothing, and is known from then on.
        await tell(service, report_of(service, name, cursor=None, state=EdgeState.STARTING), tokens[name])
        await made.tell(name)
    return made


Write = Callable[[World], Awaitable[set[str]]]


async def revoke_key(world: World) -> set[str]:
    return await world.pending("DELETE", await world.new_key())


async def revoke_key_of_shared(world: World) -> set[str]:
    await world.share()
    return await revoke_key(world)


async def change_nothing(world: World) -> set[str]:
    key = await world.new_key()
    await world.share()
    return await world.pending("PATCH", key, {"description": "no edge hears of this"})


async def delete_consumer(world: World) -> set[str]:
    return await world.pending("DELETE", (await world.new_key()).partition("/keys/")[0])


async def delete_bucket(world: World) -> set[str]:
    return await world.pending("DELETE", world.service.bucket_url)


async def delete_shared_bucket(world: World) -> set[str]:
    await world.share()
    return await delete_bucket(world)


async def share(world: World) -> set[str]:
    return await world.pending("POST", f"{world.service.bucket_url}/grants", {"account": "partner", "access": "read"})


async def unshare(world: World) -> set[str]:
    return await world.pending("DELETE", await world.share())


async def revoke_key_of_what_was_shared(world: World) -> set[str]:
    await world.call("DELETE", await world.share(), expect=204)
    return await revoke_key(world)


async def end_wide_key(world: World) -> set[str]:
    return await world.pending("DELETE", await world.new_management_key("my-account", account="write"))


async def end_narrow_key(world: World) -> set[str]:
    buckets = {world.service.bucket: "validate"}
    return await world.pending("DELETE", await world.new_management_key("my-account", buckets=buckets))


async def end_wide_key_where_a_bucket_is_shared(world: World) -> set[str]:
    await world.share()
    return await end_wide_key(world)


async def end_wide_key_where_a_bucket_was_shared(world: World) -> set[str]:
    await world.call("DELETE", await world.share(), expect=204)
    return await end_wide_key(world)


async def end_key_of_partner(world: World) -> set[str]:
    return await world.pending("DELETE", await world.new_management_key("partner", account="write"))


async def end_key_of_partner_where_a_bucket_is_shared(world: World) -> set[str]:
    await world.share()
    return await end_key_of_partner(world)


async def end_key_of_partner_where_a_bucket_was_shared(world: World) -> set[str]:
    await world.call("DELETE", await world.share(), expect=204)
    return await end_key_of_partner(world)


async def make_bucket(world: World) -> set[str]:
    return await world.pending("POST", f"{world.service.account_url}/key-buckets", {"name": "brand-new"})


async def make_account(world: World) -> set[str]:
    return await world.pending("POST", "/v1/accounts", {"name": "third"})


WRITES: dict[str, tuple[Write, set[str]]] = {
    "key": (revoke_key, {"mine"}),
    "key-of-a-shared-bucket": (revoke_key_of_shared, {"mine", "theirs"}),
    "nothing-that-edges-know": (change_nothing, {"mine", "theirs"}),
    "consumer": (delete_consumer, {"mine"}),
    "bucket": (delete_bucket, {"mine"}),
    "shared-bucket": (delete_shared_bucket, {"mine", "theirs"}),
    "sharing": (share, {"mine", "theirs"}),
    "end-of-sharing": (unshare, {"mine", "theirs"}),
    "key-of-what-was-shared": (revoke_key_of_what_was_shared, {"mine", "theirs"}),
    "management-key": (end_wide_key, {"mine", "narrow"}),
    "management-key-of-one-bucket": (end_narrow_key, {"mine"}),
    "management-key-beside-a-shared-bucket": (end_wide_key_where_a_bucket_is_shared, {"mine", "narrow", "theirs"}),
    "management-key-beside-a-bucket-that-was-shared": (
        end_wide_key_where_a_bucket_was_shared, {"mine", "narrow", "theirs"}),
    "management-key-of-a-stranger": (end_key_of_partner, {"theirs"}),
    "management-key-of-a-partner": (end_key_of_partner_where_a_bucket_is_shared, {"mine", "theirs"}),
    "management-key-of-who-was-a-partner": (end_key_of_partner_where_a_bucket_was_shared, {"mine", "narrow", "theirs"}),
    "new-bucket": (make_bucket, {"mine"}),
    "new-account": (make_account, set()),
}  # fmt: skip


@pytest.mark.parametrize(("write", "pending"), WRITES.values(), ids=WRITES)
async def test_a_write_waits_for_the_edges_that_may_know_what_it_changes(
    world: World, write: Write, pending: set[str]
) -> None:
    assert await write(world) == pending


async def test_whose_account_lost_a_bucket_is_waited_for_until_its_edge_has_heard_so(world: World) -> None:
    await world.call("DELETE", await world.share(), expect=204)
    assert await revoke_key(world) == {"mine", "theirs"}
    now = world.service.app._replica.cursor
    await world.tell("theirs", at=now)
    assert await revoke_key(world) == {"mine"}


async def test_an_edge_with_another_token_counts_as_knowing_what_both_show_until_it_is_further(world: World) -> None:
    narrow = world.tokens["narrow"]
    await world.tell("mine", token=narrow, start="1")
    assert await revoke_key(world) == {"mine"}
    # Whatever it is at now, it got there with the new token.
    await world.tell("mine", at=world.service.app._replica.cursor, token=narrow, start="1")
    assert await revoke_key(world) == set()


async def test_a_root_key_is_known_to_edges_of_the_deployment_alone(world: World) -> None:
    await tell(world.service, report_of(world.service, "everything", cursor=world.before))
    keys = f"{world.service.account_url}/management-keys"
    (root,) = [one for one in (await world.call("GET", keys))["data"] if one["permissions"]["account"] == "write"]
    made = await world.service.client.delete(f"{keys}/{root['id']}?wait=all&timeout=300")
    # It is the last one.
    assert made.status_code == 409
    reach = Reach(grantees=[Grantee("acct_me", Permissions(Access.WRITE), is_root=True)])
    assert reach.includes("", HeldScopes(EVERYTHING), 1)
    assert not reach.includes("acct_me", HeldScopes(EdgeScope("acct_me")), 1)
    # Versions before this told every edge of it.
    assert reach.includes("acct_me", HeldScopes.unknown("acct_me"), 1)


BUCKET = BucketPut(2, "bckt_m", "mine", "acct_me", {"acct_you": Access.READ})
SCOPES = {
    "everything": (EVERYTHING, True),
    "whole-account": (EdgeScope("acct_me"), True),
    "by-name": (EdgeScope("acct_me", frozenset({"mine"})), True),
    "another-name": (EdgeScope("acct_me", frozenset({"other"})), False),
    "shared": (EdgeScope("acct_you"), True),
    "shared-another-name": (EdgeScope("acct_you", frozenset({"other"})), False),
    "stranger": (EdgeScope("acct_they"), False),
}


@pytest.mark.parametrize(("scope", "is_meant"), SCOPES.values(), ids=SCOPES)
def test_a_bucket_reaches_whoever_sees_it(scope: EdgeScope, is_meant: bool) -> None:
    assert Reach(buckets=[BUCKET]).includes(scope.account_id, HeldScopes(scope), 5) is is_meant
    assert EVERYBODY.includes(scope.account_id, HeldScopes(scope), 5)


def test_a_withdrawal_counts_for_its_bucket_and_account_and_for_who_is_behind_it() -> None:
    gone = Withdrawal("bckt_m", "acct_me", "acct_they", 7)
    reach, scopes = Reach(buckets=[BUCKET], withdrawals=[gone]), HeldScopes(EdgeScope("acct_they"))
    assert [reach.includes("acct_they", scopes, revision) for revision in (0, 6, 7, 8)] == [True, True, False, False]
    assert not replace(reach, withdrawals=[replace(gone, bucket_id="bckt_o")]).includes("acct_they", scopes, 0)
    assert not reach.includes("acct_others", HeldScopes(EdgeScope("acct_others")), 0)


def test_what_an_edge_may_hold_is_kept_as_it_is() -> None:
    one, other, third = (
        EdgeScope("acct_me", frozenset({"a", "b"})),
        EdgeScope("acct_me"),
        EdgeScope("acct_me", None, "x"),
    )
    held = HeldScopes(one).followed_by(other, 5).followed_by(third, 4)
    assert set(held.at(5)) == {one, other, third}
    assert held.at(6) == (third,)
    assert HeldScopes.decode("acct_me", held.encode()) == held
    assert held.followed_by(third, 9) is held
    # What was behind it with an earlier one is over once it was further.
    assert set(held.followed_by(one, 6).at(6)) == {one, third}
    assert HeldScopes.decode("", HeldScopes(EVERYTHING).encode()) == HeldScopes(EVERYTHING)
    assert HeldScopes.decode("acct_me", None) == HeldScopes.unknown("acct_me")


def test_whoever_changes_its_token_without_end_is_taken_to_know_all_of_its_account() -> None:
    held = HeldScopes(EdgeScope("acct_me", frozenset({"first"})))
    for number in range(3 * MOST_EARLIER):
        held = held.followed_by(EdgeScope("acct_me", frozenset({f"bucket-{number}"})), 5)
    assert len(held.earlier) <= MOST_EARLIER
    assert any(scope.names is None for scope in held.at(5))
