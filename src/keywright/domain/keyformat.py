"""Owns the text of a key: how a secret is made, recognised, masked, found in other text and turned into a digest.

A generated secret is ``<prefix>_<32 lower-case hex>_<8 hex>``: 128 random bits, then the CRC-32 of those 32 characters,
so that a typing error or a truncated copy is told from an unknown key without a look-up, and leak scanners can be sure
of a find. A prefix may have parts (``acme_live``). A *custom* secret is any 8 to 512 printable ASCII characters without
spaces.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from keywright.domain.text import is_whole

DEFAULT_PREFIX = "kwak"
"""Of keys where nobody says another one: no vendor has it, so that nobody else is told of a key that leaked."""
MANAGEMENT_PREFIX = "kwmk"
"""Of management keys alone, so that a leak scanner can tell whose front door is open."""
PREFIX_PATTERN = r"^[a-z](_?[a-z0-9])+$"
MIN_PREFIX_LENGTH, MAX_PREFIX_LENGTH = 2, 24
PREFIX_WORDS = "2 to 24 characters: a-z, 0-9 and single _ between them, starting with a letter"
MIN_LENGTH = 8
MAX_LENGTH = 512
RANDOM_BYTES = 16
STOP_WORDS = ("000000", "aaaaaa", "add_", "dead", "feed")
"""What a generated secret does not spell behind its prefix: the generic rule of gitleaks passes over what does.

These are all of its 1,445 stop words that hex and `_` can spell there (v8.30.1, in cmd/generate/config/rules,
stopwords.go; Betterleaks 2.0.0 has the same). That costs 0.002 of 128 bits: one secret in 780 is drawn again.
"""
_MAX_DRAWS = 100
DIGEST_BYTES = 32
HINT_LENGTH = 8

_PREFIX = re.compile(r"(?=..)[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_BODY = re.compile(r"[0-9a-f]{32}_[0-9a-f]{8}")
_GENERATED_IN_TEXT = re.compile(r"(?<![A-Za-z0-9])[a-z](?:_?[a-z0-9]){1,23}_" + _BODY.pattern + r"(?![A-Za-z0-9])")
# The last part of the prefix is enough to know one by. What stands before it may stay: it is no secret.
_LIKE_GENERATED = re.compile(r"[a-z0-9]{1,24}_[0-9a-f]{16,32}(?:_[0-9a-f]{0,8})?")
_CUSTOM = re.compile(r"[\x21-\x7e]{8,512}")


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """The parts of a secret in the generated format; ``is_checksum_right`` tells whether the last part fits."""

    prefix: str
    random: str
    checksum: str

    @property
    def is_checksum_right(self) -> bool:
        return checksum(self.random) == self.checksum


class Secret:
    """A key's full text, kept out of logs, reprs and exceptions; ``reveal()`` is the only way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(****)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")

    def __eq__(self, other: object) -> bool:
        # Secrets are found and compared by digest only.
        raise TypeError("secrets are compared by digest")

    __hash__ = None  # type: ignore[assignment]


def generate(prefix: str, random_bytes: Callable[[int], bytes]) -> Secret:
    """A new secret in the generated format; `random_bytes` is `secrets.token_bytes` outside of tests.

    Raises RuntimeError for a source that gives nothing but stop words, which is no random one.
    """
    for _ in range(_MAX_DRAWS):
        random = random_bytes(RANDOM_BYTES).hex()
        body = f"{random}_{checksum(random)}"
        if not any(word in body for word in STOP_WORDS):
            return Secret(f"{prefix}_{body}")
    raise RuntimeError("no secret could be drawn: the source of random bytes repeats itself")


def find_prefix_fault(prefix: str) -> str | None:
    """Which rule a prefix for the keys of consumers breaks, as in "must be ..."; None for one that is good."""
    if len(prefix) > MAX_PREFIX_LENGTH or not is_whole(PREFIX_PATTERN, prefix):
        return f"must be {PREFIX_WORDS}"
    if MANAGEMENT_PREFIX in prefix.split("_"):
        return f"must not have {MANAGEMENT_PREFIX} in it: management keys begin so"
    return None


def checksum(random: str) -> str:
    """CRC-32 (ISO 3309) of the characters of the random part, as 8 lower-case hex digits."""
    return f"{zlib.crc32(random.encode('ascii')):08x}"


def parse(text: str) -> ParsedKey | None:
    """The parts of a text that has the generated format, right checksum or not; None for every other text."""
    # From behind, where the lengths are known: edges do this for whatever strangers send.
    if text[-9:-8] != "_" or text[-42:-41] != "_" or _BODY.fullmatch(text, len(text) - 41) is None:
        return None
    prefix = text[:-42]
    if len(prefix) > MAX_PREFIX_LENGTH or _PREFIX.fullmatch(prefix) is None:
        return None
    return ParsedKey(prefix, text[-41:-9], text[-8:])


def is_possible(text: str) -> bool:
    """Whether the text could be a key: printable ASCII of the right length and, in our format, a right checksum."""
    if _CUSTOM.fullmatch(text) is None:
        return False
    parsed = parse(text)
    return parsed is None or parsed.is_checksum_right


def is_valid_custom(text: str) -> bool:
    """Whether the text may be brought along as a custom key: 8 to 512 printable ASCII characters, no spaces."""
    return _CUSTOM.fullmatch(text) is not None


def hint_of(secret: Secret) -> str:
    """The last characters of a secret, by which people recognise it: 8 of them, but never more than a quarter.

    A custom key may be as short as 8 characters; the last 8 of that would be the key itself.
    """
    text = secret.reveal()
    return text[-min(HINT_LENGTH, len(text) // 4) :]


def mask(hint: str) -> str:
    """How a key is shown where it must not be seen: ``****`` and its hint."""
    return f"****{hint}"


def find_in(text: str) -> Iterator[str]:
    """Every secret in the generated format with a right checksum that stands in a text, such as a leaked file."""
    for match in _GENERATED_IN_TEXT.finditer(text):
        parsed = parse(match.group(0))
        if parsed is not None and parsed.is_checksum_right:
            yield match.group(0)


def mask_in(text: str) -> str:
    """The text with the secrets in it masked: whatever has the generated format, cut short or mistyped as well."""
    return _LIKE_GENERATED.sub(mask(""), text)


class Digester:
    """Turns secrets into digests: HMAC-SHA-256 (RFC 2104) under the deployment's pepper.

    The two keyed states are made once and copied for each digest, which is four times as fast as `hmac.digest` on
    secrets of this size and gives the same bytes.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, pepper: bytes) -> None:
        block = (hashlib.sha256(pepper).digest() if len(pepper) > 64 else pepper).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, secret: str) -> bytes:
        """The 32-byte digest of a secret. Raises UnicodeEncodeError for lone surrogates, which no key can hold."""
        inner = self._inner.copy()
        inner.update(secret.encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def pepper_check(self) -> str:
        """A public value by which two processes see whether they have the same pepper."""
        return self.digest("keywright pepper check").hex()[:16]
