"""What keys of a bucket begin with: where that comes from, and what changing it does and doesn't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from keywright.domain.keyformat import parse
from keywright.origin.buckets.rules import MAX_FORMER_PREFIXES
from keywright.origin.db.tables import buckets
from keywright.origin.db.transaction import Database
from support.service import Service, running, settings_for


async def new_bucket(service: Service, name: str, **members: Any) -> Service:
    await service.call("POST", f"{service.account_url}/key-buckets", json={"name": name, **members})
    return replace(service, bucket=name)


def prefix_of(secret: str) -> str:
    parsed = parse(secret)
    assert parsed is not None
    assert parsed.is_checksum_right
    return parsed.prefix


async def test_a_deployment_has_a_prefix_for_buckets_that_say_none(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, key_prefix="acme_live")) as service:
        made = await service.new_consumer(apiKeys=[{}])
        assert prefix_of(made["apiKeys"][0]["key"]) == "acme_live", "of a bucket of the first start"
        management = await service.call("POST", f"{service.account_url}/management-keys", json={"permissions": {}})
        assert prefix_of(management["key"]) == "kwmk"
    async with running(settings_for(tmp_path, key_prefix="other")) as service:
        before = await service.call("GET", service.bucket_url)
        assert before["keyPrefix"] == "acme_live", "a bucket that there is keeps its own"
        for name, members, prefix in (("says-none", {}, "other"), ("says-one", {"keyPrefix": "mine"}, "mine")):
            bucket = await new_bucket(service, name, **members)
            made = await bucket.new_consumer(apiKeys=[{}])
            assert prefix_of(made["apiKeys"][0]["key"]) == prefix


async def test_a_new_prefix_is_for_keys_to_come_and_old_keys_stay_good(embedded: Service) -> None:
    bucket = await new_bucket(embedded, "changes-its-prefix", keyPrefix="zpka")
    consumer = await bucket.new_consumer()
    old = await bucket.new_key(consumer["name"])

    changed = await bucket.call("PATCH", bucket.bucket_url, json={"keyPrefix": "acme_live"})
    new = await bucket.new_key(consumer["name"])

    assert (changed["keyPrefix"], changed["formerKeyPrefixes"]) == ("acme_live", ["zpka"])
    assert [prefix_of(key["key"]) for key in (old, new)] == ["zpka", "acme_live"]
    assert [await bucket.verdict(key["key"]) for key in (old, new)] == ["VALID", "VALID"]
    assert await bucket.verdict(new["key"][:-1] + ("0" if new["key"][-1] != "0" else "1")) == "MALFORMED"
    logs = await bucket.call("GET", f"{bucket.account_url}/audit-logs", params={"limit": 10})
    told = next(entry for entry in logs["data"] if entry["action"] == "bucket.update")["resources"][0]["metadata"]
    assert told["keyPrefix"] == {"from": "zpka", "to": "acme_live"}
    await bucket.call("POST", f"{bucket.consumers_url}/{consumer['name']}/roll-key", json={}, expect=204)
    rolled = await bucket.call("GET", f"{bucket.consumers_url}/{consumer['name']}/keys?key-format=visible")
    assert prefix_of(rolled["data"][0]["key"]) == "acme_live"


async def test_former_prefixes_are_told_once_each_and_bounded(embedded: Service) -> None:
    bucket = await new_bucket(embedded, "changes-it-often", keyPrefix="aa")

    async def change(prefix: str, expect: int = 200) -> dict[str, Any]:
        answer: dict[str, Any] = await bucket.call(
            "PATCH", bucket.bucket_url, json={"keyPrefix": prefix}, expect=expect
        )
        return answer

    assert (await change("aa"))["formerKeyPrefixes"] == [], "nothing was changed"
    assert (await change("bb"))["formerKeyPrefixes"] == ["aa"]
    assert (await change("aa"))["formerKeyPrefixes"] == ["bb"], "and back"
    assert (await change("cc"))["formerKeyPrefixes"] == ["bb", "aa"]
    for number in range(MAX_FORMER_PREFIXES - 2):
        last = await change(f"p{number}")
    assert len(last["formerKeyPrefixes"]) == MAX_FORMER_PREFIXES
    await change("one-too-many".replace("-", "_"), expect=409)
    assert (await change("bb"))["formerKeyPrefixes"] == [*last["formerKeyPrefixes"][1:], last["keyPrefix"]]
    sent_back = await bucket.call("PATCH", bucket.bucket_url, json=await bucket.call("GET", bucket.bucket_url))
    assert sent_back["keyPrefix"] == "bb"


@pytest.mark.parametrize("prefix", ["kwmk", "kwmk_a"])
async def test_a_bucket_of_before_may_send_a_reserved_prefix_back(embedded: Service, prefix: str) -> None:
    bucket = await new_bucket(embedded, f"reserved-{len(prefix)}")
    database = Database(embedded.settings.database_url)
    async with database.write() as tx:
        await tx.execute(sa.update(buckets).where(buckets.c.name == bucket.bucket).values(key_prefix=prefix))
    await database.close()
    same = await bucket.call("PATCH", bucket.bucket_url, json={"keyPrefix": prefix, "description": "as it is"})
    assert (same["keyPrefix"], same["description"]) == (prefix, "as it is")
