"""Who writes and who asks, each in a thread of its own and at a rate of its own."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from keys import Key, Keys

from support.api import BUCKET, CONSUMERS_URL, Api

CONSUMERS = 200
EXPIRY_SECONDS = 120
WRONG_KEPT = 50
EXPIRY_SLACK_SECONDS = 2.0
"""Time of day and the clock that tests read are compared this well."""


class Actor(ABC, threading.Thread):
    """`turns` counts what it did, and `wrong` has what should not have been."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(name=name, daemon=True)
        self.turns = 0
        self.wrong: list[str] = []
        self._rate = rate
        self._latencies: list[float] = []
        self._stop_asked = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        while not self._stop_asked.is_set():
            began = time.monotonic()
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001
                self.note(f"{type(error).__name__}: {error}")
            self._latencies.append(time.monotonic() - began)
            self.turns += 1
            # What is late is not made up for: the next turns would come all at once.
            due = max(due + 1 / self._rate, time.monotonic() - 1)
            self._stop_asked.wait(max(0.0, due - time.monotonic()))

    def stop(self) -> None:
        self._stop_asked.set()
        if self.ident is not None:
            self.join(60)

    def note(self, text: str) -> None:
        if len(self.wrong) < WRONG_KEPT:
            self.wrong.append(f"{datetime.now(UTC):%H:%M:%S} {self.name}: {text}")

    def take_latencies(self) -> list[float]:
        """Seconds that each turn took since this was last asked."""
        taken, self._latencies = self._latencies, []
        return taken

    @abstractmethod
    def turn(self) -> None: ...


class Reader(Actor):
    """Asks one place about keys, and knows what it must not say."""

    def __init__(self, name: str, port: int, keys: Keys, rate: float, *, late_seconds: float) -> None:
        """`late_seconds` are how long after a key's end this place may still call it good."""
        super().__init__(name, rate)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._keys = keys
        self._late_seconds = late_seconds

    def turn(self) -> None:
        key = self._keys.pick()
        if key is None:
            return
        asked = time.monotonic()
        try:
            said = self._ask(key.secret)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.note(f"no answer: {error!r}")
            return
        answered = time.monotonic()
        if said != "VALID" and key.must_be_good(asked, answered):
            self.note(f"{key.id} is good, and {said} was said {answered - key.begun:.1f} s after its creation")
        if said == "VALID" and key.must_have_ended(asked, self._late_seconds):
            self.note(f"{key.id} had ended {asked - key.ended:.1f} s before, and VALID was said")

    def _ask(self, secret: str) -> str:
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/v1/validate/{BUCKET}", json.dumps({"key": secret}), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        return str(json.loads(content)["code"]) if answer.status == 200 else str(answer.status)


class Writer(Actor):
    """Makes consumers and keys, and ends them by deletion, roll and expiry, so that about as many stay."""

    def __init__(self, api: Api, keys: Keys, rate: float) -> None:
        super().__init__("writer", rate)
        self._api = api
        self._keys = keys
        self._random = random.Random(2)
        self._consumers: list[str] = []

    def turn(self) -> None:
        if len(self._consumers) < CONSUMERS:
            self._new_consumer()
            return
        if (expired := self._keys.take_expired()) is not None:
            # Its consumer may be gone, and it with that.
            self._call("DELETE", f"{CONSUMERS_URL}/{expired.consumer}/keys/{expired.id}", {204, 404})
            return
        if len(self._keys) < self._keys.wanted:
            self._new_key()
            return
        ways = [self._delete_key] * 5 + [self._new_key] * 5 + [self._roll, self._rename, self._replace_consumer]
        self._random.choice(ways)()

    def _new_consumer(self) -> None:
        made = self._api.new_consumer(apiKeys=[{}], tags={"soak": "yes"})
        self._consumers.append(made["name"])
        self._add(made["name"], made["apiKeys"][0], None)

    def _new_key(self) -> None:
        expires = None
        if self._random.random() < 0.3:
            expires = datetime.now(UTC) + timedelta(seconds=EXPIRY_SECONDS)
        consumer = self._random.choice(self._consumers)
        members = {} if expires is None else {"expiresOn": expires.isoformat()}
        self._add(consumer, self._api.new_key(consumer, description="of a soak", **members), expires)

    def _delete_key(self) -> None:
        key = self._keys.take_out()
        if key is not None:
            self._call("DELETE", f"{CONSUMERS_URL}/{key.consumer}/keys/{key.id}", {204, 404})
            key.ended = min(key.ended, time.monotonic())

    def _roll(self) -> None:
        """The keys of before end a while after."""
        consumer = self._random.choice(self._consumers)
        expires = datetime.now(UTC) + timedelta(seconds=EXPIRY_SECONDS)
        # Keys that expire sooner do so as before.
        rolled = self._keys.take_out_of(consumer)
        for key in rolled:
            key.ended = min(key.ended, _moment(expires) + EXPIRY_SLACK_SECONDS)
        self._keys.expires(rolled)
        self._call("POST", f"{CONSUMERS_URL}/{consumer}/roll-key", {204}, json={"expiresOn": expires.isoformat()})
        listed = self._api.call("GET", f"{CONSUMERS_URL}/{consumer}/keys?key-format=visible")["data"]
        newest = max(listed, key=lambda one: one["createdOn"])
        self._add(consumer, newest, None)

    def _rename(self) -> None:
        consumer = self._random.choice(self._consumers)
        self._call("PATCH", f"{CONSUMERS_URL}/{consumer}", {200}, json={"metadata": {"turn": self.turns}})

    def _replace_consumer(self) -> None:
        consumer = self._consumers.pop(self._random.randrange(len(self._consumers)))
        ending = self._keys.take_out_of(consumer)
        self._call("DELETE", f"{CONSUMERS_URL}/{consumer}", {204})
        for key in ending:
            key.ended = min(key.ended, time.monotonic())

    def _add(self, consumer: str, made: dict[str, Any], expires: datetime | None) -> None:
        key = Key(made["key"], made["id"], consumer, time.monotonic())
        if expires is not None:
            key.ending = _moment(expires) - EXPIRY_SLACK_SECONDS
            key.ended = _moment(expires) + EXPIRY_SLACK_SECONDS
        self._keys.add(key)

    def _call(self, method: str, url: str, expected: set[int], **options: Any) -> httpx2.Response:
        answer = self._api.request(method, url, **options)
        if answer.status_code not in expected:
            self.note(f"{method} {url}: {answer.status_code} {answer.text[:200]}")
        return answer


def _moment(at: datetime) -> float:
    """By time.monotonic()."""
    return time.monotonic() + (at - datetime.now(UTC)).total_seconds()
