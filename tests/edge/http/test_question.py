"""What a gateway demands in the bucket's segment; and that nothing else of a request asks, or answers, for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from keywright.domain.identity_headers import rename
from keywright.domain.powers import encode_powers
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from edge.asgi import Answer
    from keywright.edge.replica.replica import Replica

S = "zpka_secret-1"
BEARER = [(b"authorization", b"Bearer " + S.encode())]


@pytest.fixture
def powered(replica: Replica) -> ForwardAuth:
    owner = replace(consumer(1, 1), powers=encode_powers(scopes=["orders:read", "a"]))
    replica.load(
        "dep_1", PEPPER_CHECK, at(1), [replace(bucket(1, "my-bucket"), features=("scopes",)), owner, key(S, 1, 1)]
    )
    return ForwardAuth(Validator(replica, DIGESTER, clock=lambda: NOW))


async def ask(endpoint: ForwardAuth, segment: str) -> Answer:
    return await call(endpoint, "GET", f"/v1/forward-auth/{segment}", headers=BEARER)


@pytest.mark.parametrize(
    ("segment", "status"),
    [
        ("my-bucket", 200), ("my-bucket;scope=a", 200), ("my-bucket;scope=a,orders:read", 200),
        ("my-bucket;scope=a/what/envoy?asks=about", 200), ("my-bucket%3Bscope=a", 200),
        ("my-bucket;scope=orders:write", 403), ("my-bucket;scope=a,b", 403), ("my-bucket;scope=*", 403),
        ("my-bucket;scope=orders:*/;scope=a", 403), ("my-bucket/;scope=orders:write", 200),
        ("my-bucket;", 400), ("my-bucket;scope", 400), ("my-bucket;scope=", 400), ("my-bucket;scope=a,,b", 400),
        ("my-bucket;scope=a;scope=a", 400), ("my-bucket;scope=a,a", 400), ("my-bucket;scopes=a", 400),
        ("my-bucket;cost=1", 200), ("my-bucket;cost=1000000;scope=a;peek=true", 200), ("my-bucket;peek=true", 200),
        *((f"my-bucket;cost={text}", 400) for text in ("", "0", "-1", "+1", "01", "1.0", "1e3", "1000001", "%D9%A1")),
        ("my-bucket;cost=1;cost=1", 400), ("my-bucket;peek", 400), ("my-bucket;peek=", 400),
        ("my-bucket;peek=false", 400),
        ("my-bucket;route=orders", 200), ("my-bucket;route=a:b.c_d-9;cost=1", 200), ("my-bucket;route=", 400),
        ("my-bucket;route=a,b", 400), ("my-bucket;route=" + "r" * 65, 400), ("my-bucket;route=a;route=a", 400),
        ("my-bucket;peek=true;peek=true", 400), ("my-bucket;peek=1", 400), ("my-bucket;reserve=1", 400),
        ("my-bucket;Scope=a", 400), ("other-bucket;scope=a", 404), (";scope=a", 404),
    ],
)  # fmt: skip
async def test_a_segment_demands_what_stands_in_it_and_no_more(powered: ForwardAuth, segment: str, status: int) -> None:
    assert (await ask(powered, segment)).status == status


async def test_a_key_that_is_not_good_for_it_is_told_which_scopes_it_lacks(powered: ForwardAuth) -> None:
    answer = await ask(powered, "my-bucket;scope=orders:write,b")
    assert answer.status == 403
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="orders:write b"'
    assert answer.headers["x-consumer-name"] == ""


async def test_scopes_and_metadata_of_a_key_are_told_where_they_are_named(replica: Replica) -> None:
    owner = replace(consumer(1, 1), powers=encode_powers(scopes=["orders:read", "a"]))
    put = replace(key(S, 1, 1), powers=encode_powers(scopes=["*"], metadata='{"device":"Zoë\'s till"}'))
    powered = replace(bucket(1, "my-bucket"), features=("scopes", "metadata"))
    plain, nobody = "zpka_secret-2", "zpka_secret-3"
    replica.load("dep_1", PEPPER_CHECK, at(1), [powered, owner, consumer(2, 1), put, key(plain, 1, 2)])
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    named = ForwardAuth(
        validator, identity_headers=rename(["X-Key-Scopes", "X-Key-Metadata=X-Device"], "authorization")
    )

    async def told(endpoint: ForwardAuth, secret: str) -> tuple[str | None, str | None]:
        headers = [(b"authorization", b"Bearer " + secret.encode())]
        answer = await call(endpoint, "GET", "/v1/forward-auth/my-bucket", headers=headers)
        return answer.headers.get("x-key-scopes"), answer.headers.get("x-device")

    assert await told(named, S) == ("a orders:read", "%7B%22device%22%3A%22Zo%C3%AB%27s%20till%22%7D")
    assert await told(named, plain) == ("", "%7B%7D")
    # Empty ones in a refusal, too, for gateways that copy whatever the answer is.
    assert await told(named, nobody) == ("", "")
    assert await told(ForwardAuth(validator), S) == (None, None)


@pytest.mark.parametrize(("powers", "status"), [('{"enabled":false}', 401), ('{"allowedIps":["192.0.2.0/24"]}', 403)])
async def test_other_powers_are_judged_at_every_route(replica: Replica, powers: str, status: int) -> None:
    put = replace(key(S, 1, 1), powers=powers)
    features = ("enabled", "allowedIps")
    replica.load(
        "dep_1", PEPPER_CHECK, at(1), [replace(bucket(1, "my-bucket"), features=features), consumer(1, 1), put]
    )
    answer = await ask(ForwardAuth(Validator(replica, DIGESTER, clock=lambda: NOW)), "my-bucket")
    assert (answer.status, "www-authenticate" in answer.headers) == (status, status == 401)
