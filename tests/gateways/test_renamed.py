"""Identity under a name that the API knows already: as the edge is set, and as each gateway's README says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from endpoints.table import VALID
from gateways.conftest import start_all
from gateways.gateway import CADDY, ENVOY, ENVOY_GRPC, HAPROXY, KINDS, NGINX, TRAEFIK, Edits, Gateway, Kind, with_key
from gateways.spellings import spellings
from gateways.upstream import Upstream

_REMOVED = ("(consumer|key)", "(consumer|key|user)")
RENAMED: dict[Kind, Edits] = {
    NGINX: [("X-Consumer-Name", "X-User-Id"), ("$upstream_http_x_consumer_name", "$upstream_http_x_user_id")],
    TRAEFIK: [("X.(Consumer|Key).", "X.(Consumer|Key|User)."), ("X-Consumer-Name", "X-User-Id")],
    CADDY: [
        ("copy_headers X-Consumer-Name", "copy_headers X-User-Id"),
        ("request_header -X-Key-*", "request_header -X-Key-*\n\trequest_header -X-User-Id"),
        ('"keep-alive"', '"keep-alive"\n\trequest_header Connection "(?i)x-user-id" "keep-alive"'),
    ],
    ENVOY: [_REMOVED, ("{ prefix: x-key- }", "{ prefix: x-key- }, { exact: x-user-id }")],
    ENVOY_GRPC: [_REMOVED],
    HAPROXY: [_REMOVED, ("set-header X-Consumer-Name", "set-header X-User-Id")],
}
FORGED = [(spelling.encode(), b"forged") for spelling in spellings("X-User-Id")]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[dict[Kind, Gateway]]:
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("renamed")
        names = "X-Consumer-Name=X-User-Id"
        started, _ = start_all(stack, directory, upstream, lambda kind: RENAMED[kind], KEYWRIGHT_IDENTITY_HEADERS=names)
        yield started


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_api_gets_the_chosen_name_from_the_edge_and_never_from_the_client(
    kind: Kind, gateways: dict[Kind, Gateway]
) -> None:
    seen = gateways[kind].ask("GET", "/", [*with_key(VALID), *FORGED]).seen
    assert [(name, value) for name, value in seen if "forged" in value] == []
    identity = dict(seen)
    assert identity["x-user-id"] == "my-consumer"
    assert identity["x-consumer-id"].startswith("csmr_")
    assert "x-consumer-name" not in identity
    assert gateways[kind].ask("GET", "/", FORGED).status == 401
    hop_by_hop = gateways[kind].ask("GET", "/", [*with_key(VALID), (b"Connection", b"X-User-Id")])
    assert dict(hop_by_hop.seen)["x-user-id"] == "my-consumer"
