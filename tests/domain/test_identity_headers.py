"""Names that a deployment chooses for identity headers are names that every gateway can copy and take away."""

from __future__ import annotations

import pytest

from keywright.domain.identity_headers import IDENTITY_HEADERS, rename


def test_what_is_not_renamed_keeps_its_name() -> None:
    assert rename([], "authorization") == IDENTITY_HEADERS
    renamed = rename(["X-Consumer-Name = X-User-Id", "x-consumer-metadata=Remote-User"], "authorization")
    assert renamed == IDENTITY_HEADERS._replace(consumer_name="x-user-id", consumer_metadata="remote-user")


def test_scopes_and_metadata_of_a_key_are_told_only_where_they_are_named() -> None:
    assert rename([], "authorization").told() == [
        "x-consumer-name", "x-consumer-id", "x-key-id", "x-consumer-metadata", "x-consumer-token"
    ]  # fmt: skip
    named = rename(["X-Key-Scopes", "X-Key-Metadata = X-Device"], "authorization")
    assert named.told()[5:] == ["x-key-scopes", "x-device"]
    assert rename(["X-Key-Scopes=X-Key-Scopes"], "authorization").told()[5:] == ["x-key-scopes"]


def test_names_may_be_exchanged() -> None:
    renamed = rename(["X-Consumer-Name=X-Consumer-Id", "X-Consumer-Id=X-Consumer-Name"], "authorization")
    assert (renamed.consumer_name, renamed.consumer_id) == ("x-consumer-id", "x-consumer-name")


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("X-User-Id", "renames x-consumer-name"),
        ("X-User-Id=X-Consumer-Name", "renames x-consumer-name"),
        ("X-Consumer-Name", "letters, digits and hyphens"),
        ("X-Consumer-Name=", "letters, digits and hyphens"),
        ("X-Consumer-Name=X_User", "letters, digits and hyphens"),
        ("X-Consumer-Name=X User", "letters, digits and hyphens"),
        ("X-Consumer-Name=X-User\r\nX-Evil", "letters, digits and hyphens"),
        ("X-Consumer-Name=X-Üser", "letters, digits and hyphens"),
        ("X-Consumer-Name=:authority", "letters, digits and hyphens"),
        ("X-Consumer-Name=X-" + "x" * 63, "64 at most"),
        ("X-Consumer-Name=Content-Length", "meaning of its own"),
        ("X-Consumer-Name=Proxy-Anything", "meaning of its own"),
        ("X-Consumer-Name=X-API-Key", "meaning of its own"),
        ("X-Consumer-Name=X-Key-Id", "the same name"),
        ("X-Key-Scopes=X-Key-Id", "the same name"),
        ("X-Key-Scopes=", "letters, digits and hyphens"),
        ("X-Key-Plan", "renames x-consumer-name"),
    ],
)
def test_names_that_would_not_do_are_refused(pair: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rename([pair], "X-API-Key")
