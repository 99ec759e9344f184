"""What the redactor knows as a secret, and what it leaves as it is."""

from __future__ import annotations

import pytest

from keywright.runtime.redaction import redact, redact_value

KEY = "acme9_d67b7e241bb948758f415b79aa8ec822_2efb7009"

SECRETS = {
    "a-key-of-any-prefix": (f"the key {KEY} was sent", "the key **** was sent"),
    "a-key-that-was-cut-short": (f"the key {KEY[:-12]}", "the key ****"),
    "a-key-within-a-word": (f"nn{KEY}nn", "****nn"),
    "two-keys": (f"{KEY},{KEY}", "****,****"),
    "a-bearer-token": ("sent Bearer abc.def-1, twice", "sent Bearer ****, twice"),
    "a-bearer-token-in-lower-case": ("bearer  abc", "bearer  ****"),
    "a-header": ("Authorization: Bearer abc", "Authorization: ****"),
    "a-header-of-another-scheme": ("authorization: Basic dTpw", "authorization: ****"),
    "a-bare-header": ("authorization: abc; next", "authorization: ****; next"),
    "a-keywright-token": ("Keywright-Token: abc", "Keywright-Token: ****"),
    "a-dictionary": ("{'keywright-token': 'abc', 'x': 1}", "{'keywright-token': '****', 'x': 1}"),
    "pairs-of-bytes": (
        "[(b'authorization', b'Bearer abc'), (b'a', b'b')]",
        "[(b'authorization', b'****'), (b'a', b'b')]",
    ),
    "a-password-in-a-url": ("postgresql://me:hunter2@db:5432/x", "postgresql://me:****@db:5432/x"),
    "a-password-with-an-at-sign": ("smtps://me:hun@ter2@mail:465", "smtps://me:****@mail:465"),
    "a-token-in-a-url": ("nats://hunter2@hub:4222", "nats://****@hub:4222"),
}
HARMLESS = [
    "http://127.0.0.1:8080/v1/accounts?x=me@example.com",
    "mail to me@example.com",
    "key key_gT2hJ0aLq81mZxC4vB7nR5sK of csmr_3kd9Qw1eRtYuIoPaSdFgHjKl",
    "request 0123456789abcdef0123456789abcdef failed",
    "the authorization of the request, and its Keywright-Token header",
]


@pytest.mark.parametrize(("text", "redacted"), SECRETS.values(), ids=SECRETS)
def test_a_secret_is_masked(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert redact(redacted) == redacted


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_secrets_are_masked_in_every_part_of_a_structured_value() -> None:
    class Holder:
        def __repr__(self) -> str:
            return f"Holder({KEY})"

    value = {
        "text": KEY,
        KEY: 1,
        "held": Holder(),
        "raw": KEY.encode(),
        "password": "hunter2",
        "headers": [("Authorization", "hunter2"), (b"keywright-token", b"hunter2"), ["x-request-id", "one"]],
        "set": {KEY},
        "count": 3,
        "is": True,
        "none": None,
    }
    assert redact_value(value) == {
        "text": "****",
        "****": 1,
        "held": "Holder(****)",
        "raw": "b'****'",
        "password": "****",
        "headers": [["Authorization", "****"], ["b'keywright-token'", "****"], ["x-request-id", "one"]],
        "set": "{'****'}",
        "count": 3,
        "is": True,
        "none": None,
    }
