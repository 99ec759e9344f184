"""A reader is written for in the format that it names: what it can't judge is kept from it, and no other change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.protocol.changes import BucketPut, Change, ConsumerDelete, ConsumerPut, Cursor, Hidden, KeyDelete, KeyPut
from keywright.protocol.frames import Frame, FrameKind
from origin.feed.test_http_endpoint import HEADERS, Stream, cursor_of, opened
from support.service import Service

OFF = '{"enabled":false}'


async def committed(service: Service, *changes: Change) -> Cursor:
    """Note these changes for the edges, as a rule does; the cursor before them."""
    before = await cursor_of(service)
    async with service.app._database.write() as tx:
        for change in changes:
            tx.record(change)
    return before


async def put_of(service: Service, consumer: str) -> tuple[ConsumerPut, KeyPut]:
    """A consumer and its only key, as they are in the record."""
    async with service.app._database.read(is_snapshot=True) as tx:
        puts = [put async for page in stream_snapshot(tx) for put in page]
    owner = next(put for put in puts if isinstance(put, ConsumerPut) and put.name == consumer)
    return owner, next(put for put in puts if isinstance(put, KeyPut) and put.consumer_number == owner.number)


async def changes_after(service: Service, cursor: Cursor, feed_format: str | None, token: str | None = None) -> Frame:
    more = {} if feed_format is None else {"keywright-feed-format": feed_format}
    given = {} if token is None else {"token": token}
    async with opened(service, "/v1/feed/changes", f"after={cursor}", headers=more, **given) as stream:
        frame = await stream.next()
        assert frame is not None
        if frame.kind is FrameKind.SNAPSHOT:
            assert await stream.next() is None
        return frame


@pytest.mark.parametrize("named", ["1", "", "three", "3.0"])
async def test_a_format_that_is_none_is_refused_before_anything_is_sent(embedded: Service, named: str) -> None:
    headers = {**HEADERS, "keywright-feed-format": named}
    for path in ("", "/snapshot", f"/changes?after={await cursor_of(embedded)}"):
        problem = await embedded.call("GET", f"/v1/feed{path}", headers=headers, expect=400)
        assert "Keywright-Feed-Format" in problem["detail"]


@pytest.mark.parametrize(("named", "scope"), [(None, "everything"), ("2", "everything"), ("3", "everything/3"),
                                              ("17", "everything/3")], ids=str)  # fmt: skip
async def test_the_scope_tells_which_format_is_written(embedded: Service, named: str | None, scope: str) -> None:
    assert (await changes_after(embedded, await cursor_of(embedded), named)).scope == scope


async def test_what_a_reader_of_before_can_not_judge_is_deleted_for_it_in_its_own_place(service: Service) -> None:
    consumer = await service.new_consumer()
    await service.new_key(consumer["name"])
    owner, key = await put_of(service, consumer["name"])
    told: list[Change] = [replace(key, powers=OFF), replace(owner, powers=OFF), key, KeyDelete(key.digest, 1)]
    before = await committed(service, *told)
    assert (await changes_after(service, before, "3")).changes == told
    old = await changes_after(service, before, None)
    gone = [KeyDelete(key.digest, key.bucket_number), ConsumerDelete(owner.number)]
    assert old.changes == [*gone, key, KeyDelete(key.digest, 1)]
    assert old.cursor == await cursor_of(service)


async def test_a_reader_of_before_is_told_to_take_a_snapshot_when_a_consumer_is_plain_again(service: Service) -> None:
    consumer = await service.new_consumer()
    await service.new_key(consumer["name"])
    owner, _ = await put_of(service, consumer["name"])
    again = replace(owner, has_lost_powers=True)
    before = await committed(service, again)
    assert (await changes_after(service, before, None)).kind is FrameKind.SNAPSHOT
    assert (await changes_after(service, before, "3")).changes == [again]


async def test_a_reader_that_does_not_see_the_consumer_needs_no_snapshot_for_it(embedded: Service) -> None:
    consumer = await embedded.new_consumer()
    await embedded.new_key(consumer["name"])
    owner, _ = await put_of(embedded, consumer["name"])
    token = await embedded.new_management_key(buckets={"my-project-preview": "validate"}, feed=True)
    before = await committed(embedded, replace(owner, has_lost_powers=True))
    frame = await changes_after(embedded, before, None, token)
    assert (frame.kind, frame.changes) == (FrameKind.CHANGES, [Hidden()])


async def test_a_snapshot_leaves_out_what_a_reader_of_before_can_not_judge(service: Service) -> None:
    made = [await service.new_consumer() for _ in range(3)]
    keys = [await service.new_key(one["name"]) for one in made]
    await service.call("PATCH", f"{service.consumers_url}/{made[1]['name']}", json={"enabled": False})
    url = f"{service.consumers_url}/{made[2]['name']}/keys/{keys[2]['id']}"
    await service.call("PATCH", url, json={"enabled": False})
    names, ids = [one["name"] for one in made], [one["id"] for one in keys]
    for named, seen_names, seen_ids in (("2", [0, 2], [0, 1]), ("3", [0, 1, 2], [0, 1, 2])):
        async with opened(service, "/v1/feed/snapshot", headers={"keywright-feed-format": named}) as stream:
            puts = [put async for put in _puts_of(stream)]
        # A key is there whose consumer is not: nobody reaches it, as where a consumer was deleted.
        assert [put.name for put in puts if isinstance(put, ConsumerPut) and put.name in names] == [
            names[at] for at in seen_names
        ]
        assert {put.key_id for put in puts if isinstance(put, KeyPut)} & {*ids} == {ids[at] for at in seen_ids}
        powers = {put.powers for put in puts if isinstance(put, ConsumerPut | KeyPut)}
        assert powers == ({None} if named == "2" else {None, OFF})
        features = {name for put in puts if isinstance(put, BucketPut) for name in put.features}
        assert features == (set() if named == "2" else {"enabled"})


async def _puts_of(stream: Stream) -> AsyncIterator[Change]:
    while (frame := await stream.next()) is not None:
        for put in frame.changes:
            yield put
