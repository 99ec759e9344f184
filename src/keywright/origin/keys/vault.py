"""Owns sealing: retrievable secrets under a data key per bucket, data keys under the master key ring (AES-256-GCM).

Two levels, so that a new master key means re-sealing one small value per bucket and no row of keys. What a sealed value
belongs to is bound in as associated data: a row that is copied to another place can't be opened there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keywright.domain.keyformat import Secret

KEY_BYTES = 32
NONCE_BYTES = 12


class MasterKeyMissing(Exception):
    """A data key was sealed by a master key that is not in the ring."""


class SealBroken(Exception):
    """A sealed value does not open: it was changed, or belongs to another row."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Master keys by id; the first seals, all of them open. A key's id is drawn from the key itself."""

    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, *keys: bytes) -> KeyRing:
        return cls({master_key_id(key): key for key in keys})

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """A ring from base64 keys, one on each line (or separated by commas). Raises ValueError."""
        lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
        keys = [_decode(line) for line in lines if line and not line.startswith("#")]
        if not keys:
            raise ValueError("holds no key")
        return cls.of(*keys)

    def format(self) -> str:
        return "".join(base64.b64encode(key).decode() + "\n" for key in self.keys.values())

    @property
    def active_id(self) -> str:
        return next(iter(self.keys))

    def with_active(self, key: bytes) -> KeyRing:
        return KeyRing.of(key, *self.keys.values())

    def only(self, ids: set[str]) -> KeyRing:
        return KeyRing({id: key for id, key in self.keys.items() if id in ids})


def master_key_id(key: bytes) -> str:
    return "mk_" + hashlib.sha256(b"keywright master key id\0" + key).hexdigest()[:16]


def _decode(line: str) -> bytes:
    try:
        key = base64.b64decode(line, validate=True)
    except binascii.Error:
        raise ValueError("holds a line that is not base64") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"holds a key of {len(key)} bytes; {KEY_BYTES} are needed")
    return key


class Vault:
    """Seals and opens. `load_ring` reads the ring from where it is kept, again whenever an unknown master key is named:
    so a rotation reaches every running process without a restart.
    """

    def __init__(self, load_ring: Callable[[], KeyRing], random_bytes: Callable[[int], bytes]) -> None:
        self._load_ring = load_ring
        self._random_bytes = random_bytes
        self._ring = load_ring()
        self._known = dict(self._ring.keys)

    def reload(self) -> KeyRing:
        self._ring = self._load_ring()
        # A row that was read before it was sealed anew still names a key that has left the ring since.
        self._known.update(self._ring.keys)
        return self._ring

    def new_data_key(self, bucket_id: str) -> tuple[str, bytes]:
        """The id of the active master key, and a new data key for the bucket sealed by it."""
        # A bucket is made rarely, and must not be sealed by a master key that was discarded a moment ago.
        return self._seal_data_key(self.reload(), bucket_id, self._random_bytes(KEY_BYTES))

    def reseal_data_key(self, bucket_id: str, master_key: str, sealed: bytes) -> tuple[str, bytes]:
        """The same data key, sealed by the active master key."""
        return self._seal_data_key(self._ring, bucket_id, self._open_data_key(bucket_id, master_key, sealed))

    def bucket(self, bucket_id: str, master_key: str, sealed_data_key: bytes) -> BucketVault:
        data_key = self._open_data_key(bucket_id, master_key, sealed_data_key)
        return BucketVault(AESGCM(data_key), bucket_id, self._random_bytes)

    def _seal_data_key(self, ring: KeyRing, bucket_id: str, data_key: bytes) -> tuple[str, bytes]:
        nonce = self._random_bytes(NONCE_BYTES)
        cipher = AESGCM(ring.keys[ring.active_id])
        return ring.active_id, nonce + cipher.encrypt(nonce, data_key, _about("data key", bucket_id))

    def _open_data_key(self, bucket_id: str, master_key: str, sealed: bytes) -> bytes:
        if master_key not in self._known:
            self.reload()
        key = self._known.get(master_key)
        if key is None:
            raise MasterKeyMissing(master_key)
        return _open(AESGCM(key), sealed, _about("data key", bucket_id))


class BucketVault:
    """Seals and opens the secrets of one bucket."""

    def __init__(self, cipher: AESGCM, bucket_id: str, random_bytes: Callable[[int], bytes]) -> None:
        self._cipher = cipher
        self._bucket_id = bucket_id
        self._random_bytes = random_bytes

    def seal(self, secret: Secret, *, consumer_id: str, key_id: str) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        about = _about("secret", self._bucket_id, consumer_id, key_id)
        return nonce + self._cipher.encrypt(nonce, secret.reveal().encode("ascii"), about)

    def open(self, sealed: bytes, *, consumer_id: str, key_id: str) -> Secret:
        """Raises SealBroken when the value was changed or is another row's."""
        return Secret(
            _open(self._cipher, sealed, _about("secret", self._bucket_id, consumer_id, key_id)).decode("ascii")
        )


def _open(cipher: AESGCM, sealed: bytes, about: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
    except (InvalidTag, ValueError):
        raise SealBroken from None


def _about(*parts: str) -> bytes:
    return "\0".join(("keywright", *parts)).encode()
