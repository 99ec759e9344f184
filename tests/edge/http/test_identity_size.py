"""What an identity takes in headers is no more than was reckoned with when it was written, and the files carry that."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from edge.apps import new_app
from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.identity_headers import DEFAULT_MAX_BYTES, IDENTITY_HEADERS, identity_bytes, rename
from keywright.domain.powers import encode_powers
from keywright.edge.haproxy.entries import MAX_VALUE_BYTES, TOO_LONG, consumer_values
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.identity_token import IdentitySigner, key_from_pepper
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.runtime.settings.origin import MAX_METADATA_BYTES

GATEWAYS = Path(__file__).parents[3] / "gateways"
NAME = "n" * 128
SECRET = "zpka_secret-of-a-large-one"
TEXTS = ["x", " ", "é", "漢", "😀", '"', "\\", "\x01", "/", "~", "é漢x\n"]


def metadata_of(text: str, size: int = 1024) -> str:
    """So many bytes of JSON, or a few less."""
    written = {"a": ""}
    while len(json.dumps({"a": written["a"] + text}, ensure_ascii=False, separators=(",", ":")).encode()) <= size:
        written["a"] += text
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("metadata", [metadata_of(text) for text in TEXTS] + ['{"a":[' + "0," * 500 + "0]}"])
async def test_the_headers_take_no_more_than_was_reckoned(metadata: str, tmp_path: Path) -> None:
    replica = Replica.open(tmp_path / "replica", PEPPER_CHECK)
    bucket_name = "b" * 128
    replica.load(
        "dep_1", PEPPER_CHECK, at(5), [bucket(1, bucket_name), consumer(1, 1, NAME, metadata), key(SECRET, 1, 1)]
    )
    signer = IdentitySigner(key_from_pepper(DIGESTER), issuer="https://" + "i" * 60, seconds=60, clock=lambda: NOW)
    app = new_app(Validator(replica, DIGESTER, lambda: NOW), signer=signer)
    shown = [(b"authorization", f"Bearer {SECRET}".encode())]
    answer = await call(app, "GET", f"/v1/forward-auth/{bucket_name}", headers=shown)
    replica.close()
    assert answer.status == 200
    taken = sum(len(name) + len(answer.headers[name]) + len(": \r\n") for name in IDENTITY_HEADERS.told())
    assert taken <= identity_bytes(metadata) <= DEFAULT_MAX_BYTES


def test_whatever_the_default_limit_of_metadata_allows_is_passed_on() -> None:
    limit = MAX_METADATA_BYTES.default
    random.seed(1)
    for _ in range(200):
        text = "".join(random.choices(TEXTS, k=3))
        assert identity_bytes(metadata_of(text, limit)) <= DEFAULT_MAX_BYTES


def test_the_files_carry_an_identity_of_the_default_size() -> None:
    nginx = (GATEWAYS / "nginx/check.conf").read_text()
    (kilobytes,) = re.findall(r"proxy_buffer_size (\d+)k;", nginx)
    assert int(kilobytes) * 1024 >= DEFAULT_MAX_BYTES + 2048
    # What HAProxy leaves of its buffer (tune.maxrewrite is 1024), with as much for the client's own head.
    (size,) = re.findall(r"tune\.bufsize (\d+)", (GATEWAYS / "haproxy/haproxy.cfg").read_text())
    assert int(size) - 1024 >= DEFAULT_MAX_BYTES + 16_384
    assert MAX_VALUE_BYTES >= DEFAULT_MAX_BYTES
    widest = max((metadata_of(text, 4096) for text in TEXTS), key=identity_bytes)
    for written in (widest, metadata_of("x", 4400), metadata_of("漢", 1500)):
        if identity_bytes(written) <= DEFAULT_MAX_BYTES:
            assert consumer_values(consumer(1, 1, NAME, written)) != (TOO_LONG, None)


async def test_scopes_and_metadata_of_a_key_are_reckoned_too(replica: Replica) -> None:
    scopes = [f"orders:{n:04}:" + "x" * 88 for n in range(45)]
    of_key = json.dumps({"device": "é" * 400}, ensure_ascii=False)
    metadata = metadata_of("é")
    owner = replace(consumer(1, 1, NAME, metadata), powers=encode_powers(scopes=scopes))
    put = replace(key(SECRET, 1, 1), powers=encode_powers(scopes=["*"], metadata=of_key))
    powered = replace(bucket(1, "my-bucket"), features=("scopes", "metadata"))
    replica.load("dep_1", PEPPER_CHECK, at(1), [powered, owner, put])
    names = rename(["X-Key-Scopes", "X-Key-Metadata"], "authorization")
    signer = IdentitySigner(key_from_pepper(DIGESTER), issuer="https://" + "i" * 60, seconds=60, clock=lambda: NOW)
    endpoint = ForwardAuth(Validator(replica, DIGESTER, lambda: NOW), identity_headers=names, signer=signer)
    shown = [(b"authorization", f"Bearer {SECRET}".encode())]
    answer = await call(endpoint, "GET", "/v1/forward-auth/my-bucket", headers=shown)
    taken = sum(len(name) + len(answer.headers[name]) + len(": \r\n") for name in names.told())
    assert 0.7 * identity_bytes(metadata, of_key, scopes) < taken <= identity_bytes(metadata, of_key, scopes)
