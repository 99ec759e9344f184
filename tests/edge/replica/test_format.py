"""The format that docs/reference/replica-format.md promises, by stored samples: Python reads and writes these.

gateways/lua reads the same samples in tests/gateways/lua/test_format.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge.world import DIGESTER
from keywright.edge.replica import records
from keywright.edge.state_page import FILE, NONE, State, StatePage

SAMPLES: dict[str, Any] = json.loads(Path(__file__).with_name("replica-format.json").read_text())
each_record = pytest.mark.parametrize(
    "sample", SAMPLES["records"], ids=lambda sample: f"{sample['database']}-{sample['name'][:8]}"
)


def read(database: str, name: bytes, value: bytes) -> dict[str, Any]:
    """What the documentation calls the parts of a record."""
    match database:
        case "buckets":
            bucket = records.decode_bucket(name.decode(), value)
            return {"number": bucket.number, "id": bucket.bucket_id, "refuseAfter": bucket.refuse_after}
        case "buckets3":
            scopes, features = json.loads(value)
            return {"defaultScopes": scopes, "features": features}
        case "consumers" | "consumers3":
            put = (records.consumer_put3 if database == "consumers3" else records.consumer_put)(name, value)
            return {
                "bucket": put.bucket_number, "id": put.consumer_id, "name": put.name, "metadata": put.metadata,
                "powers": put.powers,
            }  # fmt: skip
        case "keys" | "keys3":
            key = (records.key_put3 if database == "keys3" else records.key_put)(name, value)
            return {
                "consumer": key.consumer_number, "id": key.key_id, "expiresAt": key.expires_at, "powers": key.powers,
            }  # fmt: skip
        case "plans3":
            return {"powers": records.plan_put(name, value).powers}
    raise AssertionError(database)


def encode(database: str, name: bytes, value: bytes) -> bytes:  # noqa: PLR0911
    match database:
        case "consumers":
            return records.encode_consumer(records.consumer_put(name, value))
        case "consumers3":
            return records.encode_consumer3(records.consumer_put3(name, value))
        case "keys":
            return records.encode_key(records.key_put(name, value))
        case "keys3":
            return records.encode_key3(records.key_put3(name, value))
        case "plans3":
            return records.encode_plan(records.plan_put(name, value))
        case "buckets":
            return records.encode_bucket(records.bucket_put(records.decode_bucket(name.decode(), value)))
    bucket = records.decode_bucket("my-bucket", b'[7,"bckt_1",null,{},null]')
    return records.encode_bucket3(records.bucket_put(records.with_bucket3(bucket, value)))


@each_record
def test_a_stored_record_is_read_as_the_samples_say_and_written_as_it_was(sample: dict[str, Any]) -> None:
    name, kept = bytes.fromhex(sample["name"]), bytes.fromhex(sample["value"])
    value = records.checked(name, kept)
    assert read(sample["database"], name, value) == sample["decoded"]
    assert records.with_check(name, encode(sample["database"], name, value)) == kept


@each_record
def test_a_stored_record_with_any_bit_turned_is_not_read(sample: dict[str, Any]) -> None:
    name, kept = bytes.fromhex(sample["name"]), bytes.fromhex(sample["value"])
    for at in range(len(kept)):
        broken = bytearray(kept)
        broken[at] ^= 1 << at % 8
        with pytest.raises(ValueError, match="not as it was written"):
            records.checked(name, bytes(broken))
    with pytest.raises(ValueError, match="not as it was written"):
        records.checked(name + b"x", kept)


def test_a_secret_has_the_digest_of_the_samples() -> None:
    assert DIGESTER.digest(SAMPLES["secret"]).hex() == SAMPLES["digest"]
    assert DIGESTER.pepper_check() == SAMPLES["pepperCheck"]


def test_a_page_of_state_is_read_and_written_as_the_samples_say(tmp_path: Path) -> None:
    said = SAMPLES["state"]
    (tmp_path / FILE).write_bytes(bytes.fromhex(said["page"]))
    expected = State(said["inStepAt"], (said["originStart"], NONE), (said["until"], said["refuseAfter"]))
    assert StatePage(tmp_path / FILE, said["boot"]).read() == expected
    again = StatePage(tmp_path / "again", said["boot"])
    again.put_in_step(said["inStepAt"] / 1000)
    again.put_clock(said["originStart"], None)
    again.put_lease(said["until"] / 1000, said["refuseAfter"] / 1000, tmp_path / "there is no lease.json")
    assert (tmp_path / "again").read_bytes().hex() == said["page"]
