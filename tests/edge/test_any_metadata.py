"""Whatever metadata the API takes, a key's identity gets through every endpoint with it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge.apps import new_app
from edge.asgi import call
from edge.grpc.test_ext_authz import a_check
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.problems import BadRequest
from keywright.edge.grpc.ext_authz import ExtAuthz
from keywright.edge.grpc.ext_authz_pb2 import CheckResponse
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.identity_token import IdentitySigner, key_from_pepper
from keywright.edge.replica.replica import Replica
from keywright.edge.validator import Validator
from keywright.origin.db.tables import to_json
from keywright.origin.pipeline.body import parse_json
from keywright.policy.rules.identity import User

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "zpka_secret-of-anything"
BIG = 10**308 * 18


def nested(depth: int, innermost: Any) -> dict[str, Any]:
    value = innermost
    for number in range(depth):
        value = [value] if number % 2 else {"in": value}
    return {"data": value}


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
integers = st.integers() | st.sampled_from([BIG, -BIG, 10**309, 10**900, 2**53 + 1, -(2**63), 2**64])
leaves = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(leaves, lambda one: st.lists(one, max_size=3) | st.dictionaries(texts, one, max_size=3))
metadata = st.dictionaries(texts, values, max_size=4) | st.builds(nested, st.integers(1, 62), leaves)


@settings(max_examples=60, deadline=None)
@given(metadata)
def test_any_metadata_that_the_api_takes_passes_every_endpoint(given_metadata: Mapping[str, Any]) -> None:
    try:
        taken = parse_json(json.dumps({"metadata": given_metadata}).encode(), 10_000)["metadata"]
    except BadRequest:
        assume(False)
    pass_every_endpoint(to_json(taken))


def pass_every_endpoint(text: str) -> None:

    expected = json.loads(text)
    with tempfile.TemporaryDirectory() as base:
        replica = Replica.open(Path(base) / "replica", PEPPER_CHECK)
        try:
            parts = [bucket(1, "my-bucket"), consumer(1, 1, "my-consumer", text), key(SECRET, 1, 1)]
            replica.load("dep_1", PEPPER_CHECK, at(3), parts)
            validator = Validator(replica, DIGESTER, lambda: NOW)
            signer = IdentitySigner(
                key_from_pepper(DIGESTER), issuer="https://k.example", seconds=60, clock=lambda: NOW
            )
            app = new_app(validator, signer=signer)
            shown = [(b"authorization", f"Bearer {SECRET}".encode())]
            asked = json.dumps({"key": SECRET}).encode()
            answer = asyncio.run(call(app, "POST", "/v1/validate/my-bucket", body=asked))
            assert (answer.status, answer.json()["user"]["data"]) == (200, expected)
            answer = asyncio.run(call(app, "GET", "/v1/forward-auth/my-bucket", headers=shown))
            assert (answer.status, json.loads(unquote(answer.headers["x-consumer-metadata"]))) == (200, expected)
            response = ExtAuthz(ForwardAuth(validator, signer=signer)).check(a_check("my-bucket", f"Bearer {SECRET}"))
            heard = CheckResponse.FromString(response.SerializeToString())
            assert heard.status.code == 0
            assert set(heard.dynamic_metadata["data"]) == set(expected)
            assert User("my-consumer", text.encode(), "c", "k").data == expected
        finally:
            replica.close()
