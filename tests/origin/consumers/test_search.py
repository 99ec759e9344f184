"""Finding consumers and buckets: by what people remember, page by page, and nothing that the actor may not see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from keywright.domain.models import Environment
from keywright.domain.paging import Page
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.domain.problems import NotFound
from keywright.origin.auth.actors import SYSTEM, Actor, ActorKind
from keywright.origin.buckets import rules as buckets
from keywright.origin.consumers import rules as consumers
from keywright.origin.consumers.rules import ConsumerSearch, Place
from keywright.origin.pipeline.unit_of_work import AuditDraft, UnitOfWork
from keywright.serve.first_start import make_dependencies
from support.service import Service


@asynccontextmanager
async def working(service: Service, actor: Actor = SYSTEM) -> AsyncIterator[UnitOfWork]:
    dependencies = make_dependencies(service.settings)
    async with service.app._database.read() as tx:
        yield UnitOfWork(tx, actor, dependencies.clock(), dependencies, AuditDraft())


async def names(work: UnitOfWork, service: Service, wanted: ConsumerSearch, place: Place | None = None) -> list[str]:
    found, _ = await consumers.search(work, service.account, service.bucket, wanted, place=place or Place(), limit=100)
    return [view.consumer.name for view in found]


async def test_consumers_are_found_by_what_people_remember(service: Service) -> None:
    bodies: list[dict[str, Any]] = [
        {"name": "acme-inc", "tags": {"plan": "gold"}, "managers": [{"email": "Ada@Example.com"}]},
        {"name": "acme_labs", "tags": {"plan": "silver"}},
        {"name": "other", "tags": {"region": "gold"}, "managers": [{"email": "bob@example.com", "sub": "b"}]},
    ]
    for body in bodies:
        await service.call("POST", service.consumers_url, json=body)
    key = (await service.new_key("other"))["key"]
    # The same things in another bucket are no find.
    elsewhere = f"{service.account_url}/key-buckets/my-project-preview/consumers"
    await service.call("POST", elsewhere, json=bodies[0])
    async with working(service) as work:
        for wanted, expected in (
            (ConsumerSearch(), ["other", "acme_labs", "acme-inc"]),
            (ConsumerSearch(name="acme"), ["acme_labs", "acme-inc"]),
            (ConsumerSearch(name="_"), ["acme_labs"]),
            (ConsumerSearch(name="%"), []),
            (ConsumerSearch(tag=("plan", "gold")), ["acme-inc"]),
            (ConsumerSearch(tag=("plan", None)), ["acme_labs", "acme-inc"]),
            (ConsumerSearch(tag=("gold", None)), []),
            (ConsumerSearch(manager="ada@example.com"), ["acme-inc"]),
            (ConsumerSearch(manager="example.com"), []),
            (ConsumerSearch(hint=key[-8:]), ["other"]),
            (ConsumerSearch(hint=key[-4:]), ["other"]),
            (ConsumerSearch(hint="%"), []),
            (ConsumerSearch(name="acme", tag=("plan", "gold")), ["acme-inc"]),
        ):
            assert await names(work, service, wanted) == expected, wanted


async def test_pages_follow_one_another_both_ways_whatever_happens_meanwhile(service: Service) -> None:
    for number in range(7):
        await service.call("POST", service.consumers_url, json={"name": f"c{number}"})
    async with working(service) as work:

        async def part(place: Place) -> tuple[list[str], list[int], int]:
            found, total = await consumers.search(
                work, service.account, service.bucket, ConsumerSearch(), place=place, limit=3
            )
            views = [view.consumer for view in found]
            return [one.name for one in views], [one.number for one in views], total

        first, numbers, total = await part(Place())
        # One more than asked for, so that it is known that there is more.
        assert (first, total) == (["c6", "c5", "c4", "c3"], 7)
    await service.call("DELETE", f"{service.consumers_url}/c4", expect=204)
    await service.call("POST", service.consumers_url, json={"name": "c7"})
    async with working(service) as work:
        second, more, _ = await part(Place(older_than=numbers[2]))
        assert second == ["c3", "c2", "c1", "c0"]
        back, _, _ = await part(Place(newer_than=more[0]))
        assert back == ["c7", "c6", "c5"]


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        (Permissions(account=Access.READ), {"first", "second"}),
        (Permissions(buckets={"*": Access.READ}), {"first", "second"}),
        (Permissions(buckets={"first-bucket": Access.READ}), {"first"}),
        (Permissions(buckets={"first-bucket": Access.WRITE, "none-such": Access.READ}), {"first"}),
        (Permissions(feed=True), set()),
    ],
    ids=["account", "every bucket", "one bucket", "one that is and one that is not", "only the feed"],
)
async def test_who_may_not_read_the_account_sees_the_buckets_that_their_key_names(
    embedded: Service, permissions: Permissions, expected: set[str]
) -> None:
    for name in ("first-bucket", "second-bucket"):
        await embedded.call("POST", f"{embedded.account_url}/key-buckets", json={"name": name})
    async with working(embedded) as work:
        account = (await buckets.get(work, embedded.account, "first-bucket")).account_id
    actor = Actor("key_x", ActorKind.SERVICE, Grantee(str(account), permissions))
    async with working(embedded, actor) as work:
        found, _ = await buckets.search(work, embedded.account, project=None, environment=None, page=Page())
        assert {view.bucket.name.removesuffix("-bucket") for view in found} & {"first", "second"} == expected
        with pytest.raises(NotFound):
            await buckets.search(work, "another-account", project=None, environment=None, page=Page())


async def test_buckets_are_found_by_project_and_environment(service: Service) -> None:
    await service.call("POST", f"{service.account_url}/projects", json={"name": "second"})
    async with working(service) as work:
        for project, environment, expected in (
            ("second", None, ["second-production", "second-preview", "second-working-copy"]),
            (None, Environment.PREVIEW, ["second-preview", "my-project-preview"]),
            ("second", Environment.PRODUCTION, ["second-production"]),
            ("none-such", None, []),
        ):
            found, total = await buckets.search(
                work, service.account, project=project, environment=environment, page=Page()
            )
            assert [view.bucket.name for view in found] == expected
            assert total == len(expected)
