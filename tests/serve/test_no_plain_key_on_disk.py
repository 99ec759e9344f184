"""No secret, nor a part of one, is in the database, its logs, the replica or the service's log."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import postgres as postgres_server
from support.api import ACCOUNT_URL, BUCKET, BUCKET_URL, CONSUMERS_URL, ROOT_KEY, VARIABLES, Api
from support.postgres import Postgres
from support.process import ServeProcess

WINDOW = 16


class Round:
    """Every operation once; `seen` holds each secret that was sent or shown."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.seen: set[str] = {ROOT_KEY}

    def call(self, method: str, url: str, **options: Any) -> Any:
        answer = self.api.call(method, url, **options)
        self._collect(answer)
        return answer

    def _collect(self, answer: Any) -> None:
        if isinstance(answer, dict):
            if isinstance(answer.get("key"), str) and not answer["key"].startswith("****"):
                self.seen.add(answer["key"])
            answer = list(answer.values())
        if isinstance(answer, list):
            for item in answer:
                self._collect(item)

    def custom(self) -> str:
        secret = "custom." + secrets.token_urlsafe(24)
        self.seen.add(secret)
        return secret

    def generated(self) -> str:
        """The text of a key that never was one: what is sent by mistake may well be somebody's."""
        import zlib

        random = secrets.token_hex(16)
        secret = f"zpka_{random}_{zlib.crc32(random.encode()):08x}"
        self.seen.add(secret)
        return secret

    def run(self) -> None:
        self._buckets_and_accounts()
        self._consumers_and_keys()
        self._mistakes()

    def _buckets_and_accounts(self) -> None:
        self.call("POST", "/v1/accounts", json={"name": "partner-account"})
        self.call("POST", f"{ACCOUNT_URL}/projects", json={"name": "shop"})
        self.call("DELETE", f"{ACCOUNT_URL}/projects/shop", expect=204)
        for name, is_retrievable in (("a-bucket", True), ("digests-only", False)):
            body = {"name": name, "isRetrievable": is_retrievable, "keyPrefix": "acme_live"}
            self.call("POST", f"{ACCOUNT_URL}/key-buckets", json=body)
            consumers = f"{ACCOUNT_URL}/key-buckets/{name}/consumers"
            self.call("POST", consumers, json={"name": "acme", "apiKeys": [{}, {"key": self.custom()}]})
            self.call("POST", f"{consumers}/acme/roll-key", json={}, headers={"Prefer": "return=representation"})
        self.call("PATCH", f"{ACCOUNT_URL}/key-buckets/a-bucket", json={"description": "d", "keyPrefix": "beta"})
        self.call("POST", f"{BUCKET_URL}/grants", json={"account": "partner-account", "access": "write"})
        owner = self.call("POST", f"{BUCKET_URL}/owner-keys", json={"description": "owner"})
        made = self.call("POST", f"{ACCOUNT_URL}/management-keys", json={"permissions": {"account": "write"}})
        for key in (owner["key"], made["key"]):
            headers = {"Authorization": f"Bearer {key}"}
            self.call("GET", f"{CONSUMERS_URL}", headers=headers)
            self.call("POST", "/v1/accounts", json={"name": "not-allowed"}, headers=headers, expect=403)
        self.call("GET", f"{BUCKET_URL}/owner-keys")
        self.call("DELETE", f"{BUCKET_URL}/owner-keys/{owner['id']}", expect=204)
        self.call("GET", f"{ACCOUNT_URL}/management-keys")
        self.call("DELETE", f"{ACCOUNT_URL}/management-keys/{made['id']}", expect=204)
        self.call("DELETE", f"{ACCOUNT_URL}/key-buckets/a-bucket", expect=204)
        self.call("DELETE", f"{BUCKET_URL}/grants/partner-account", expect=204)

    def _consumers_and_keys(self) -> None:
        self.call("POST", CONSUMERS_URL, params={"with-api-key": "true"}, json={"name": "with-key"})
        body = {"name": "acme", "managers": ["ada@example.com"], "apiKeys": [{}, {"key": self.custom()}]}
        self.call("POST", CONSUMERS_URL, json=body)
        url = f"{CONSUMERS_URL}/acme"
        one = self.call("POST", f"{url}/keys", json={"description": "one"})
        custom = self.custom()
        self.call("POST", f"{url}/keys", json={"key": custom})
        self.call("POST", f"{url}/keys", json={"key": custom}, expect=409)
        self.call("POST", f"{url}/keys/$bulk", json=[{}] * 300 + [{"key": self.custom()}])
        visible = {"key-format": "visible", "include-api-keys": "true"}
        for place in (url, f"{url}/keys", f"{url}/keys/{one['id']}", CONSUMERS_URL):
            self.call("GET", place, params=visible)
        self.call("PATCH", f"{url}/keys/{one['id']}", json={"key": one["key"], "expiresOn": "2099-01-01T00:00:00Z"})
        self.call("PATCH", f"{url}/keys/{one['id']}", json={"key": self.custom()}, expect=400)
        self.call("POST", f"{url}/roll-key", expect=204, json={"expiresOn": "2098-01-01T00:00:00Z"})
        self.call("GET", f"{url}/keys", params=visible)
        for key in list(self.seen)[:50]:
            self.call("POST", f"/v1/validate/{BUCKET}", json={"key": key})
            self.api.get(f"/v1/forward-auth/{BUCKET}", headers={"Authorization": f"Bearer {key}"})
        self.call("DELETE", f"{url}/keys/{one['id']}", expect=204)
        self.call("DELETE", f"{CONSUMERS_URL}/with-key", expect=204)
        self.call("GET", f"{ACCOUNT_URL}/audit-logs")

    def _mistakes(self) -> None:
        """Keys where they don't belong: refused, and forgotten."""
        key, own = self.generated(), self.custom()
        for path in (
            f"/{key}",
            f"/v1/{key}",
            f"/v1/accounts/{key}/key-buckets",
            f"{ACCOUNT_URL}/key-buckets/{key}",
            f"{CONSUMERS_URL}/{key}",
            f"{CONSUMERS_URL}/{key.replace('_', '%5f')}",
            f"{CONSUMERS_URL}/acme/keys/{key}",
            f"{CONSUMERS_URL}/acme/keys/{key}/roll",
            f"{CONSUMERS_URL}/acme/managers/{key}",
            f"{ACCOUNT_URL}/management-keys/{key}",
            f"/v1/validate/{key}",
            f"/v1/forward-auth/{key}",
            f"/docs/{key}",
        ):
            for method in ("GET", "POST", "PATCH", "DELETE"):
                for query in ("", f"?key={key}&tag.{own}={own}&limit={own}&{own}"):
                    response = self.api.request(method, path + query, json={"key": own, own: own})
                    assert 400 <= response.status_code < 500, response.text
        for header in (
            f"Basic {own}",
            own,
            key,
            f"Token {key}",
            f"Bearer {own}",
            f"Bearer {key}",
            f"Bearer {key} {own}",
        ):
            for url in (CONSUMERS_URL, f"/v1/forward-auth/{BUCKET}"):
                self.api.request("POST", url, headers={"Authorization": header}, json={"name": "acme"})
        headers = {"X-Api-Key": key, "Cookie": f"key={key}", "X-Request-Id": key, "Keywright-Token": key}
        self.call(
            "POST", CONSUMERS_URL, headers={**headers, "User-Agent": f"curl {key}"}, json={"name": own}, expect=400
        )
        for body in (
            f'{{"key": "{key}"',
            f'"{key}"',
            f'{{"{key}": 1}}',
            f'{{"key": ["{own}"]}}',
            f'{{"key": "{key}\\ud800"}}',
        ):
            for url in (f"/v1/validate/{BUCKET}", f"{CONSUMERS_URL}/acme/keys", CONSUMERS_URL):
                content = {"content": body, "headers": {"Content-Type": "application/json"}}
                assert self.api.request("POST", url, **content).status_code in {200, 400}
        for field in ("name", "description", "expiresOn"):
            self.call("POST", f"{ACCOUNT_URL}/key-buckets", json={"name": own, field: {own: key}}, expect=400)


def windows(secret: str) -> Iterable[bytes]:
    """Every part of a secret that is long enough to be one, in text and as the bytes that the text stands for."""
    random = secret.split("_")[-2] if re.fullmatch("[a-z0-9_]+_[0-9a-f]{32}_[0-9a-f]{8}", secret) else secret
    text = random.encode()
    yield from (text[start : start + WINDOW] for start in range(len(text) - WINDOW + 1))
    if random is not secret:
        yield bytes.fromhex(random)


def find_parts(seen: set[str], content: bytes) -> list[bytes]:
    parts = {part for secret in seen for part in windows(secret)}
    # Wherever a part is, one of the blocks of half its length, into which the content falls, is within it: those are
    # looked up rather than each part searched for, of which there are thousands.
    half = WINDOW // 2
    pieces = {part[start : start + half] for part in parts for start in range(half + 1)}
    hits = [start for start in range(0, len(content), half) if content[start : start + half] in pieces]
    around = {content[start : start + WINDOW] for hit in hits for start in range(max(0, hit - half), hit + 1)}
    return sorted(around & parts)


def test_the_search_itself_finds_what_is_there() -> None:
    secret = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
    assert find_parts({secret}, b"\0\0d67b7e241bb94875\0")
    assert find_parts({secret}, b"x" + bytes.fromhex("d67b7e241bb948758f415b79aa8ec822"))
    assert find_parts({"my-own-custom-secret"}, b"xx-own-custom-secret")
    for before, part in itertools.product(range(20), windows(secret)):
        assert find_parts({secret}, bytes(before) + part) == [part]
        assert find_parts({secret}, bytes(before) + part[:-1] + bytes(9)) == []
    assert not find_parts({secret}, b"****2efb7009 zpka_d67b7e241bb9487")


@pytest.fixture
def own_postgres(engine: str) -> Iterator[Postgres | None]:
    """A server whose log holds nothing but this test: that of the session has what hundreds of tests wrote."""
    if engine == "sqlite":
        yield None
        return
    with postgres_server.running() as server:
        yield server


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_full_round_of_every_operation_leaves_no_plain_key_behind(
    tmp_path: Path, engine: str, own_postgres: Postgres | None
) -> None:
    data = tmp_path / "data"
    arguments = ["--database-url", own_postgres.new_database()] if own_postgres else []
    with ServeProcess(data, *arguments, KEYWRIGHT_LOG_LEVEL="debug", **VARIABLES).wait_until_ready() as served:
        done = Round(Api(served))
        done.run()
        # While it runs: the write-ahead log and its index are there too.
        files = [path.read_bytes() for path in data.rglob("*") if path.is_file()]
        names = {path.name for path in data.rglob("*") if path.is_file()}
        served.stop()
        files += [path.read_bytes() for path in data.rglob("*") if path.is_file()]
        log = served.log.read_bytes()
    assert len(done.seen) > 300
    assert names >= ({"keywright.db", "keywright.db-wal", "data.mdb"} if engine == "sqlite" else {"data.mdb"})

    assert find_parts(done.seen, log) == []
    # A sparse file is mostly nothing.
    assert find_parts(done.seen, b"\1".join(re.sub(rb"\0{32,}", bytes(32), content) for content in files)) == []
    if own_postgres:
        own_postgres.run("CHECKPOINT")
        database = arguments[1].rpartition("/")[2]
        oid = own_postgres.run(f"SELECT oid FROM pg_database WHERE datname = '{database}'").strip()
        kept = [*(own_postgres._data / "base" / oid).iterdir(), *(own_postgres._data / "pg_wal").glob("0*")]
        content = b"\1".join(re.sub(rb"\0{32,}", bytes(32), path.read_bytes()) for path in kept)
        assert b"csmr_" in content
        assert find_parts_fast(done.seen, content) == []


def find_parts_fast(seen: set[str], content: bytes) -> list[bytes]:
    """The same for a hundred megabytes: only runs of characters that a key can have are looked at."""
    runs = b"\1".join(re.findall(rb"[A-Za-z0-9._-]{16,}", content))
    return find_parts(seen, runs) + [part for part in map(_raw, seen) if part and part in content]


def _raw(secret: str) -> bytes | None:
    found = re.fullmatch("[a-z0-9_]+_([0-9a-f]{32})_[0-9a-f]{8}", secret)
    return bytes.fromhex(found[1]) if found else None
