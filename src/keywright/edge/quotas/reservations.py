"""Owns reservations as callers have them: a token that says what was reserved, and settling by it.

A token is opaque to who holds it, and authentic: a MAC under a key that is drawn from the deployment's pepper. It is
settled where it was made, at any process of that machine; whether it was settled before, the table there knows.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from keywright.domain.limits import is_name
from keywright.domain.reservations import Reservation
from keywright.edge.quotas.waiting import pauses

if TYPE_CHECKING:
    from collections.abc import Generator

    from keywright.domain.keyformat import Digester
    from keywright.domain.reservations import Settlement
    from keywright.edge.quotas.taker import Quotas

PREFIX = "kwr1_"
MAX_TOKEN_LENGTH = 2000
_MAC_BYTES = 32
# A NUL and spaces: no API key, not even a custom one, can have this text and so this digest.
_KEY_LABEL = "keywright reservations\x00 1"


class UnknownReservation(Exception):
    """No reservation of this machine: another made it, or it is long over."""


class Sealed(NamedTuple):
    bucket: str
    reservation: Reservation


class Reservations:
    """May be shared by threads."""

    def __init__(self, digester: Digester, quotas: Quotas) -> None:
        self._key = digester.digest(_KEY_LABEL)
        self._quotas = quotas
        self.settled: Counter[str] = Counter()
        """By what became of them, those that are settled again besides."""

    def seal(self, bucket: str, reservation: Reservation) -> str:
        id, consumer_number, quotas, units, expires_at = reservation
        said = json.dumps([bucket, id.hex(), consumer_number, quotas, units, expires_at], separators=(",", ":"))
        data = said.encode()
        return PREFIX + base64.urlsafe_b64encode(self._mac(data) + data).decode().rstrip("=")

    def open(self, token: str) -> Sealed | None:
        """None for what no edge of this deployment has made."""
        if not token.startswith(PREFIX) or len(token) > MAX_TOKEN_LENGTH:
            return None
        text = token.removeprefix(PREFIX)
        try:
            opened = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        mac, data = opened[:_MAC_BYTES], opened[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(data)):
            return None
        match json.loads(data):
            case [str(bucket), str(id), int(number), list(quotas), int(units), int(expires_at)] if all(
                map(is_name, quotas)
            ):
                return Sealed(bucket, Reservation(bytes.fromhex(id), number, tuple(quotas), units, expires_at))
        return None

    async def settle(self, reservation: Reservation, cost: int) -> Settlement:
        """Take what it was, and give back the rest. What lacks beyond the reservation is waited for, a quarter of a
        second at most. Raises UnknownReservation, and OSError where nothing can be counted.
        """
        attempts = self._attempts(reservation, cost)
        while True:
            try:
                pause = next(attempts)
            except StopIteration as ended:
                settlement: Settlement = ended.value
                return settlement
            await asyncio.sleep(pause)

    def settle_here(self, reservation: Reservation, cost: int) -> Settlement:
        """The same for who has no event loop: this thread waits."""
        attempts = self._attempts(reservation, cost)
        while True:
            try:
                pause = next(attempts)
            except StopIteration as ended:
                settlement: Settlement = ended.value
                return settlement
            time.sleep(pause)

    def _attempts(self, reservation: Reservation, cost: int) -> Generator[float, None, Settlement]:
        """How long to wait before each further one, and in the end what came of it."""
        found = self._quotas.settle(reservation, cost, is_last=False)
        for pause, is_ringing in pauses():
            if not isinstance(found, list):
                break
            yield pause
            if is_ringing or any(not lack.is_heard or self._quotas.has_changed(lack) for lack in found):
                found = self._quotas.settle(reservation, cost, is_last=False)
        if isinstance(found, list):
            found = self._quotas.settle(reservation, cost, is_last=True)
        if found is None or isinstance(found, list):
            raise UnknownReservation
        self.settled[found.code] += 1
        return found

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")
