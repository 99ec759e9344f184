"""A header of one's own, with and without a scheme, beside other names for identity and a token: all at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from endpoints.table import EXPIRED, ROWS, TOKEN, VALID
from gateways.conftest import start_all
from gateways.gateway import ENVOY, ENVOY_GRPC, KINDS, NGINX, Edits, Gateway, Kind
from gateways.test_renamed import RENAMED
from gateways.upstream import Upstream

_TOKEN_IN_ENVOY: Edits = [("#token ", ""), ("kwmk_...", TOKEN)]
OWN: dict[Kind, Edits] = {
    NGINX: [
        ('proxy_set_header Authorization ""', 'proxy_set_header X-Api-Key ""'),
        ('proxy_set_header Keywright-Token ""', f'proxy_set_header Keywright-Token "{TOKEN}"'),
    ],
    ENVOY: [("&key-header authorization", "&key-header x-api-key"), *_TOKEN_IN_ENVOY],
    ENVOY_GRPC: _TOKEN_IN_ENVOY,
}
each_gateway = pytest.mark.parametrize("kind", KINDS, ids=str)
World = tuple[dict[Kind, Gateway], str]


@pytest.fixture(scope="module", params=["", "Key"], ids=["bare", "scheme"])
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> Iterator[World]:
    scheme: str = request.param
    said = {"KEYWRIGHT_FORWARD_AUTH_HEADER": "x-api-key", "KEYWRIGHT_FORWARD_AUTH_SCHEME": scheme}
    with ExitStack() as stack:
        gateways, _ = start_all(
            stack,
            tmp_path_factory.mktemp("own"),
            upstream,
            lambda kind: [*RENAMED[kind], *OWN.get(kind, [])],
            of_gateways={**said, "KEYWRIGHT_VALIDATION_TOKEN": TOKEN},
            KEYWRIGHT_VALIDATION_TOKEN_REQUIRED="true",
            KEYWRIGHT_IDENTITY_HEADERS="X-Consumer-Name=X-User-Id",
            **said,
        )
        yield gateways, f"{scheme} " if scheme else ""


def shown(scheme: str, secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"X-Api-Key", f"{scheme}{secret}".encode())]


@each_gateway
def test_the_key_is_looked_for_there_and_goes_no_further(kind: Kind, world: World) -> None:
    gateways, scheme = world
    own = (b"Authorization", b"Basic dXNlcjpwYXNzd29yZA==")
    seen = dict(gateways[kind].ask("GET", "/", [*shown(scheme, VALID), own]).seen)
    assert (seen["x-user-id"], seen.get("x-consumer-name")) == ("my-consumer", None)
    assert "x-api-key" not in seen, "the API has no need of the key"
    assert seen["authorization"] == "Basic dXNlcjpwYXNzd29yZA==", "which is the API's own business"


@each_gateway
def test_every_refused_key_is_refused_there_too(kind: Kind, world: World) -> None:
    gateways, scheme = world
    secrets = [row.secret for row in ROWS if row.expected.code in ("EXPIRED", "UNKNOWN") and row.secret]
    found = {secret: gateways[kind].ask("GET", "/", shown(scheme, secret)).status for secret in secrets}
    assert set(found.values()) == {401}, found
    for headers in (
        [],
        [(b"Authorization", f"Bearer {VALID}".encode())],
        [(b"X-Api-Key", f"Bearer {VALID}".encode())],
        [(b"X-Api-Key", f"{scheme}{VALID}x".encode())],
        [(b"X-Api-Key", f"Key{VALID}".encode())],
        shown(scheme, EXPIRED),
    ):
        assert gateways[kind].ask("GET", "/", headers).status == 401, headers


@each_gateway
def test_a_challenge_names_the_scheme(kind: Kind, world: World) -> None:
    gateways, scheme = world
    challenge = gateways[kind].ask("GET", "/").headers["www-authenticate"]
    assert challenge.startswith(f"{scheme.strip() or 'ApiKey'} realm=")
