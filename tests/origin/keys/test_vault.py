"""Sealing: what is sealed opens where it belongs and nowhere else, and a new master key reaches every process."""

from __future__ import annotations

import base64
import secrets

import pytest

from keywright.domain.keyformat import Secret
from keywright.origin.keys.vault import KEY_BYTES, KeyRing, MasterKeyMissing, SealBroken, Vault, master_key_id

SECRET = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
PLACE = {"consumer_id": "csmr_1", "key_id": "key_1"}


class Kept:
    """Where the ring is kept; `reads` counts how often it was read."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self.reads = 0

    def __call__(self) -> KeyRing:
        self.reads += 1
        return self.ring


@pytest.fixture
def kept() -> Kept:
    return Kept(KeyRing.of(secrets.token_bytes(KEY_BYTES)))


@pytest.fixture
def vault(kept: Kept) -> Vault:
    return Vault(kept, secrets.token_bytes)


@pytest.mark.parametrize(
    "place",
    [
        {"consumer_id": "csmr_2", "key_id": "key_1"},
        {"consumer_id": "csmr_1", "key_id": "key_2"},
        {"consumer_id": "csmr_1\0key_1", "key_id": ""},
        {"consumer_id": "", "key_id": "csmr_1\0key_1"},
    ],
)
def test_a_sealed_secret_does_not_open_in_another_row(vault: Vault, place: dict[str, str]) -> None:
    bucket = vault.bucket("bckt_1", *vault.new_data_key("bckt_1"))
    sealed = bucket.seal(Secret(SECRET), **PLACE)
    with pytest.raises(SealBroken):
        bucket.open(sealed, **place)
    assert bucket.open(sealed, **PLACE).reveal() == SECRET


def test_a_data_key_does_not_open_for_another_bucket(vault: Vault) -> None:
    data_key = vault.new_data_key("bckt_1")
    with pytest.raises(SealBroken):
        vault.bucket("bckt_2", *data_key)


def test_a_sealed_secret_does_not_open_in_another_bucket(vault: Vault) -> None:
    one, other = (vault.bucket(id, *vault.new_data_key(id)) for id in ("bckt_1", "bckt_2"))
    with pytest.raises(SealBroken):
        other.open(one.seal(Secret(SECRET), **PLACE), **PLACE)


@pytest.mark.parametrize("position", [0, 11, 12, 30, -1])
def test_one_changed_bit_breaks_the_seal(vault: Vault, position: int) -> None:
    bucket = vault.bucket("bckt_1", *vault.new_data_key("bckt_1"))
    sealed = bytearray(bucket.seal(Secret(SECRET), **PLACE))
    sealed[position] ^= 1
    with pytest.raises(SealBroken):
        bucket.open(bytes(sealed), **PLACE)


@pytest.mark.parametrize("length", [0, 1, 11, 12, 27])
def test_a_seal_that_was_cut_short_is_broken(vault: Vault, length: int) -> None:
    bucket = vault.bucket("bckt_1", *vault.new_data_key("bckt_1"))
    with pytest.raises(SealBroken):
        bucket.open(bucket.seal(Secret(SECRET), **PLACE)[:length], **PLACE)


def test_the_same_secret_is_never_sealed_to_the_same_bytes_and_shows_nothing(vault: Vault) -> None:
    bucket = vault.bucket("bckt_1", *vault.new_data_key("bckt_1"))
    sealed = {bucket.seal(Secret(SECRET), **PLACE) for _ in range(100)}
    assert len(sealed) == 100
    assert all(SECRET[5:13].encode() not in one for one in sealed)


def test_an_unknown_master_key_is_looked_for_where_the_ring_is_kept(vault: Vault, kept: Kept) -> None:
    old = vault.new_data_key("bckt_1")
    kept.ring = kept.ring.with_active(secrets.token_bytes(KEY_BYTES))
    new = Vault(kept, secrets.token_bytes).reseal_data_key("bckt_1", *old)
    reads = kept.reads

    vault.bucket("bckt_1", *new)
    assert kept.reads == reads + 1

    vault.bucket("bckt_1", *new)
    vault.bucket("bckt_1", *old)
    assert kept.reads == reads + 1


def test_a_master_key_that_is_nowhere_is_named(vault: Vault, kept: Kept) -> None:
    _, sealed = vault.new_data_key("bckt_1")
    with pytest.raises(MasterKeyMissing, match="mk_0000"):
        vault.bucket("bckt_1", "mk_0000", sealed)
    with pytest.raises(MasterKeyMissing):
        Vault(Kept(KeyRing.of(bytes(32))), secrets.token_bytes).bucket("bckt_1", kept.ring.active_id, sealed)


def test_a_row_that_was_read_just_before_a_discarding_rotation_still_opens(vault: Vault, kept: Kept) -> None:
    read_before = vault.new_data_key("bckt_1")
    kept.ring = KeyRing.of(secrets.token_bytes(KEY_BYTES))
    # Another request of the same process made a bucket, and so read the ring without the old key.
    assert vault.new_data_key("bckt_2")[0] == kept.ring.active_id
    vault.bucket("bckt_1", *read_before)


def test_a_new_data_key_is_sealed_by_the_master_key_that_is_active_now(vault: Vault, kept: Kept) -> None:
    kept.ring = kept.ring.with_active(bytes(32))
    assert vault.new_data_key("bckt_1")[0] == master_key_id(bytes(32))


def test_resealing_keeps_the_data_key_and_so_every_secret(vault: Vault, kept: Kept) -> None:
    old = vault.new_data_key("bckt_1")
    sealed = vault.bucket("bckt_1", *old).seal(Secret(SECRET), **PLACE)
    kept.ring = kept.ring.with_active(secrets.token_bytes(KEY_BYTES))
    vault.reload()

    new = vault.reseal_data_key("bckt_1", *old)

    assert new[0] == kept.ring.active_id != old[0]
    alone = Vault(Kept(kept.ring.only({kept.ring.active_id})), secrets.token_bytes)
    assert alone.bucket("bckt_1", *new).open(sealed, **PLACE).reveal() == SECRET


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no key"),
        ("# only a comment\n\n,", "holds no key"),
        ("not base64!", "not base64"),
        (base64.b64encode(bytes(31)).decode(), "31 bytes; 32 are needed"),
        (base64.b64encode(bytes(33)).decode(), "33 bytes; 32 are needed"),
        (base64.b64encode(bytes(32)).decode() + "\nAAAA", "3 bytes; 32 are needed"),
    ],
)
def test_a_ring_that_is_none_is_refused_without_repeating_it(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        KeyRing.parse(text)
    assert not text.strip() or text.strip() not in str(caught.value)


def test_a_ring_is_one_key_a_line_or_separated_by_commas_the_first_seals() -> None:
    keys = [bytes([number]) * 32 for number in range(3)]
    ring = KeyRing.of(*keys)
    lines = ring.format()
    assert (
        KeyRing.parse(lines) == KeyRing.parse(lines.replace("\n", " , ")) == KeyRing.parse(f"# mine\n\n{lines}") == ring
    )
    assert ring.active_id == master_key_id(keys[0])
    assert list(ring.with_active(keys[2]).keys) == [master_key_id(keys[n]) for n in (2, 0, 1)]
    assert ring.only({master_key_id(keys[1])}) == KeyRing.of(keys[1])
    assert "AAAA" not in repr(ring)
    assert repr(ring) == "KeyRing()"
