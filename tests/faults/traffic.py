"""Who writes and who asks while things go wrong: threads that note in the history what they were told."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from faults.history import REFUSED, Answer, History, Write, WriteKind
from faults.schedule import EDGES
from keywright.domain.keyformat import Digester

ROOT_KEY = "root-key-of-the-tested-deployment"
BUCKET = "my-project-production"
CONSUMERS = f"/v1/accounts/my-account/key-buckets/{BUCKET}/consumers"
ANSWER_SECONDS = 3.0
WAIT_MILLIS = (400, 2500)
WRITE_PAUSE_SECONDS = 0.02
ASK_PAUSE_SECONDS = 0.01
FEWEST_WRITES = 3
LAST_CONNECTIONS = 4
"""So many that each worker most likely has one."""


class Caller:
    """One connection to a process that may die, stop or come back at any moment."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], Any]:
        """Status, headers and value. Raises OSError or HTTPException when no whole answer came."""
        connection = self._connection
        if connection is None:
            connection = self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        headers = {"Authorization": f"Bearer {ROOT_KEY}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read()
        except BaseException:
            self.close()
            raise
        told = {name.lower(): value for name, value in response.getheaders()}
        return response.status, told, json.loads(data) if data else None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Traffic:
    """Writers at the origin, and one asker for each reader, from `start` to `stop`."""

    def __init__(
        self, history: History, digester: Digester, seed: int, writers: int = 2, *, waits: float = 0.5
    ) -> None:
        """`waits` is which part of the revocations waits for all edges."""
        self.waits = waits
        self._history = history
        self._digester = digester
        self._seed = seed
        self._over = threading.Event()
        self._secrets: list[str] = []
        self._threads: list[threading.Thread] = []
        self._writers = writers
        self._readers: set[str] = set()
        self.failures: list[BaseException] = []

    def start(self, origins: Mapping[str, int], readers: Mapping[str, int]) -> None:
        """Ports by name. Each writer has one of the origins."""
        for number, (origin, port) in zip(range(self._writers), itertools.cycle(origins.items()), strict=False):
            caller = Caller(port)
            name = f"faults-{self._seed}-{number}"
            self._run(caller, _Writer(self, caller, origin, name, self._seed + number).write)
        self._readers = set(readers)
        for name, port in readers.items():
            caller = Caller(port)
            self._run(caller, _Asker(self, caller, name, self._seed).ask)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def is_served(self, since: float) -> bool:
        """Whether some writes that were asked for after a moment were acknowledged, and every reader answered."""
        writes = sum(write.acknowledged_at is not None for write in self._history.writes if write.asked_at > since)
        readers = {one.reader for one in self._history.answers if one.asked_at > since and one.verdict != REFUSED}
        return writes >= FEWEST_WRITES and readers >= self._readers

    def _run(self, caller: Caller, step: Callable[[], None]) -> None:
        def again_and_again() -> None:
            with contextlib.closing(caller):
                while not self._over.is_set():
                    try:
                        step()
                    except (OSError, http.client.HTTPException):
                        time.sleep(0.02)
                    except BaseException as error:  # noqa: BLE001
                        self.failures.append(error)
                        return

        thread = threading.Thread(target=again_and_again, daemon=True)
        self._threads.append(thread)
        thread.start()

    def digest(self, secret: str) -> bytes:
        return self._digester.digest(secret)

    def note_secrets(self, secrets: list[str]) -> None:
        self._secrets += secrets

    def ask_last(self, readers: Mapping[str, int]) -> None:
        """Ask every reader once more, over several connections, about all keys that were revoked."""
        revoked = {
            digest
            for write in self._history.writes
            if write.kind is WriteKind.REVOKE and write.acknowledged_at is not None
            for digest in write.digests
        }
        secrets = [secret for secret in self._secrets if self.digest(secret) in revoked]
        for reader, port in readers.items():
            for _ in range(LAST_CONNECTIONS):
                with contextlib.closing(Caller(port)) as caller:
                    for secret in secrets:
                        asked_at = time.monotonic()
                        status, _, value = caller.call("POST", f"/v1/validate/{BUCKET}", {"key": secret})
                        verdict = value["code"] if status == 200 else str(status)
                        at = asked_at, time.monotonic()
                        self.note(Answer(reader, self.digest(secret), *at, None, None, verdict, is_last=True))

    def draw_secret(self, dice: random.Random) -> str | None:
        """Mostly one of the newest: about those there may be doubt."""
        secrets = self._secrets
        if not secrets:
            return None
        return dice.choice(secrets[-12:] if dice.random() < 0.8 else secrets)

    def note(self, event: Write | Answer) -> None:
        (self._history.writes if isinstance(event, Write) else self._history.answers).append(event)  # type: ignore[arg-type]


class _Writer:
    """One caller with a consumer of its own, whose life it leads: it knows what there should be."""

    def __init__(self, traffic: Traffic, caller: Caller, origin: str, name: str, seed: int) -> None:
        self._traffic = traffic
        self._caller = caller
        self._origin = origin
        self._name = name
        self._dice = random.Random(seed)
        self._lives = 0
        self._consumer = ""
        self._living: dict[str, str] = {}
        """secret -> id, of keys whose making was acknowledged."""
        self._n = 0

    def write(self) -> None:
        dice = self._dice.random()
        if not self._consumer:
            self._begin()
        elif dice < 0.35 or not self._living:
            self._create(1)
        elif dice < 0.5:
            self._create(5)
        elif dice < 0.75:
            self._revoke()
        elif dice < 0.97:
            self._n += 1
            change = {"metadata": {"n": self._n}}
            self._ask(WriteKind.METADATA, "PATCH", f"{CONSUMERS}/{self._consumer}", change, n=self._n)
        else:
            name, self._consumer = self._consumer, ""
            self._living.clear()
            self._ask(WriteKind.END, "DELETE", f"{CONSUMERS}/{name}", name=name)
        time.sleep(WRITE_PAUSE_SECONDS * self._dice.random())

    def _begin(self) -> None:
        self._lives += 1
        name = f"{self._name}-{self._lives}"
        self._n += 1
        self._living.clear()
        # The name is used once only, so whether it was made is told by the log.
        body = {"name": name, "metadata": {"n": self._n}}
        if self._ask(WriteKind.METADATA, "POST", CONSUMERS, body, n=self._n, name=name) is not None:
            self._consumer = name

    def _create(self, count: int) -> None:
        secrets = [f"faults-{self._name}-{self._dice.randrange(2**64):016x}" for _ in range(count)]
        drafts: Any = [{"key": secret} for secret in secrets]
        path = f"{CONSUMERS}/{self._consumer}/keys"
        if count > 1:
            path += "/$bulk"
        digests = tuple(map(self._traffic.digest, secrets))
        # Asked about from now on: nobody knows yet whether they are.
        self._traffic.note_secrets(secrets)
        made = self._ask(WriteKind.CREATE, "POST", path, drafts if count > 1 else drafts[0], digests=digests)
        if made is not None:
            keys = made["data"] if count > 1 else [made]
            self._living.update({key["key"]: key["id"] for key in keys})

    def _revoke(self) -> None:
        secret = self._dice.choice(sorted(self._living))
        id = self._living.pop(secret)
        path = f"{CONSUMERS}/{self._consumer}/keys/{id}"
        if self._dice.random() < self._traffic.waits:
            path += f"?wait=all&timeout={self._dice.choice(WAIT_MILLIS)}"
        self._ask(WriteKind.REVOKE, "DELETE", path, digests=(self._traffic.digest(secret),))

    def _ask(
        self, kind: WriteKind, method: str, path: str, body: object = None, *, name: str = "", **more: Any
    ) -> Any | None:
        """The answer's value ({} for none) if it was acknowledged."""
        asked_at = time.monotonic()
        acknowledged_at, value = None, None
        told: dict[str, str] = {}
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, told, value = self._caller.call(method, path, body)
            if status < 300:
                acknowledged_at, value = time.monotonic(), value or {}
            elif status < 500:
                # After an unanswered delete it is gone; anything else would be a wrong answer.
                assert status in {404, 409}, f"{method} {path}: {status} {value}"
        if acknowledged_at is not None:
            more |= {
                "revision": int(told["keywright-revision"]),
                "applied_by": _applied_by(told) if self._traffic.waits < 1 else frozenset(),
            }
            more["is_everywhere"] = "keywright-applied" in told and "keywright-pending" not in told
        self._traffic.note(Write(kind, name or self._consumer, asked_at, acknowledged_at, self._origin, **more))
        return value if acknowledged_at is not None else None


def _applied_by(told: dict[str, str]) -> frozenset[str]:
    """Of which edges an answer said that they have the change: it names those that have not."""
    wanted = int(told.get("keywright-applied", "0/0").partition("/")[2])
    # Others than all, and the origin's own, and nobody knows which of them were meant.
    if wanted != len(EDGES) + 1:
        return frozenset()
    return frozenset(EDGES) - set(told.get("keywright-pending", "").split(", "))


class _Asker:
    """Asks one reader about keys, and where it is before and after."""

    def __init__(self, traffic: Traffic, caller: Caller, reader: str, seed: int) -> None:
        self._traffic = traffic
        self._reader = reader
        self._caller = caller
        self._dice = random.Random(f"{seed} {reader}")

    def ask(self) -> None:
        secret = self._traffic.draw_secret(self._dice)
        if secret is not None:
            asked_at = time.monotonic()
            low, known_at = self._look()
            status, _, value = self._caller.call("POST", f"/v1/validate/{BUCKET}", {"key": secret})
            answered_at = time.monotonic()
            high, _ = self._look()
            verdict, n = str(status), None
            if status == 200:
                verdict = value["code"]
                n = value["user"]["data"].get("n", -1) if value["valid"] else None
            digest = self._traffic.digest(secret)
            told = low, high, verdict, n, known_at
            self._traffic.note(Answer(self._reader, digest, asked_at, answered_at, *told))
        time.sleep(ASK_PAUSE_SECONDS)

    def _look(self) -> tuple[int | None, float | None]:
        """Its revision, and the moment of which it says that it knows all until then."""
        now = time.monotonic()
        _, _, ready = self._caller.call("GET", "/readyz")
        revision, lag = ready["revision"], ready["lag_seconds"]
        known_at = now - lag if ready["synced"] and lag is not None and revision is not None else None
        return None if revision is None else int(revision), known_at
