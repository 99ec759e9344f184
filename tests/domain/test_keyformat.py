"""What the text of a key promises: its checksum, its mask, its digest, and that it stays hidden."""

from __future__ import annotations

import copy
import hashlib
import hmac
import logging
import pickle
import re
import secrets
import string
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain import keyformat
from keywright.domain.keyformat import Digester, ParsedKey, Secret

KNOWN = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=512)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zpka",
        KNOWN[:-1],
        KNOWN + "0",
        KNOWN + "\n",
        " " + KNOWN,
        KNOWN.upper(),
        KNOWN.replace("_", "-"),
        KNOWN.replace("zpka", "z"),
        KNOWN.replace("zpka", "1pka"),
        KNOWN.replace("zpka", "z" * 25),
        KNOWN.replace("zpka", "z_"),
        KNOWN.replace("zpka", "_z"),
        KNOWN.replace("zpka", "z__a"),
        KNOWN.replace("zpka", "z" * 12 + "_" + "z" * 12),
        KNOWN.replace("d67b", "d67g"),
        KNOWN.replace("d67b", "d6\u0667b"),
    ],
    ids=repr,
)
def test_a_text_of_another_form_is_not_taken_for_a_generated_key(text: str) -> None:
    assert keyformat.parse(text) is None
    assert KNOWN in text or list(keyformat.find_in(text)) == []


@pytest.mark.parametrize("position", [5, 20, 36, 38, 45])
def test_one_wrong_character_is_told_from_an_unknown_key(position: int) -> None:
    other = "0" if KNOWN[position] != "0" else "1"
    mistyped = KNOWN[:position] + other + KNOWN[position + 1 :]

    parsed = keyformat.parse(mistyped)

    assert parsed is not None
    assert not parsed.is_checksum_right
    assert not keyformat.is_possible(mistyped)
    assert list(keyformat.find_in(mistyped)) == []


@pytest.mark.parametrize(
    ("text", "is_possible"),
    [
        ("1234567", False),
        ("12345678", True),
        ("x" * 512, True),
        ("x" * 513, False),
        ("with a space", False),
        ("tab\there-it-is", False),
        ("line-feed\n", False),
        ("del\x7fdel\x7f", False),
        ("schlüssel", False),
        ("!~!~!~!~", True),
        (KNOWN, True),
        (KNOWN[:-1] + "0", False),
    ],
    ids=repr,
)
def test_a_key_is_8_to_512_printable_characters_with_a_right_checksum_if_it_has_one(
    text: str, is_possible: bool
) -> None:
    assert keyformat.is_possible(text) is is_possible
    # What is brought along may look like a generated key and be none.
    assert keyformat.is_valid_custom(text) is (is_possible or text == KNOWN[:-1] + "0")


def test_the_published_example_has_the_checksum_that_it_shows() -> None:
    assert keyformat.checksum("d67b7e241bb948758f415b79aa8ec822") == "2efb7009"
    parsed = keyformat.parse(KNOWN)
    assert parsed == ParsedKey("zpka", "d67b7e241bb948758f415b79aa8ec822", "2efb7009")
    assert parsed.is_checksum_right


@given(
    st.from_regex(r"[a-z](_?[a-z0-9]){1,12}", fullmatch=True, alphabet=string.ascii_lowercase + string.digits + "_"),
    st.binary(min_size=16, max_size=16),
)
def test_what_is_generated_is_recognised_parsed_and_found(prefix: str, random: bytes) -> None:
    secret = keyformat.generate(prefix, lambda count: random[:count]).reveal()

    assert keyformat.parse(secret) == ParsedKey(prefix, random.hex(), keyformat.checksum(random.hex()))
    assert keyformat.is_possible(secret)
    assert list(keyformat.find_in(f"curl -H 'Authorization: Bearer {secret}' https://example.com")) == [secret]


@pytest.mark.parametrize(
    ("prefix", "fault"),
    [
        *((good, None) for good in ("kwak", "zpka", "ab", "a1", "acme_live", "a_b_c", "a_1", "x" * 24, "kwmkx")),
        *((bad, "must be 2 to 24 char") for bad in ("", "a", "A", "1a", "a_", "_a", "a__b", "a-b", "x" * 25, "ab\n")),
        *((bad, "must not have kwmk") for bad in ("kwmk", "kwmk_live", "acme_kwmk")),
    ],
)
def test_a_prefix_has_parts_and_none_of_them_is_that_of_management_keys(prefix: str, fault: str | None) -> None:
    found = keyformat.find_prefix_fault(prefix)
    assert (found is None) == (fault is None)
    assert (found or "").startswith(fault or "")


@pytest.mark.parametrize("prefix", ["kwak", "acme_live", "a_1", "a_b_c_d", "x" * 24, "1", "kwmk"])
def test_keys_of_any_prefix_are_masked_also_cut_short(prefix: str) -> None:
    secret = f"{prefix}_d67b7e241bb948758f415b79aa8ec822_2efb7009"
    for text in (secret, secret[:-3], secret[:-9], secret[:-20]):
        assert re.search("[0-9a-f]{8}", keyformat.mask_in(f"GET /keys/{text}?x=1")) is None


def test_two_generated_keys_differ() -> None:
    made = {keyformat.generate("zpka", secrets.token_bytes).reveal() for _ in range(1000)}
    assert len(made) == 1000


def test_keys_are_found_wherever_they_stand_in_a_text_and_nowhere_else() -> None:
    second = keyformat.generate("acme", bytes).reveal()
    text = f'KEY={KNOWN}\n{{"k":"{second}"}} x{KNOWN} {KNOWN}0 /{KNOWN}/ {KNOWN[:-1]}0 _{KNOWN}_'
    # `x` makes another prefix of it, and prefixes are anybody's; a digit behind it makes it another text.
    assert list(keyformat.find_in(text)) == [KNOWN, second, "x" + KNOWN, KNOWN, KNOWN]


@given(PRINTABLE)
def test_a_hint_never_shows_more_than_a_quarter_of_a_secret(text: str) -> None:
    hint = keyformat.hint_of(Secret(text))
    assert text.endswith(hint)
    assert len(hint) <= min(8, len(text) / 4)
    assert keyformat.mask(hint) == "****" + hint


def test_the_hint_of_a_generated_key_is_its_checksum_and_tells_nothing_of_its_random_part() -> None:
    assert keyformat.mask(keyformat.hint_of(Secret(KNOWN))) == "****2efb7009"


@pytest.mark.parametrize(
    "text",
    [KNOWN, KNOWN[:-1], KNOWN[:-9], KNOWN[:-12], KNOWN[:-1] + "0", f"/v1/keys/{KNOWN}/x", f"a {KNOWN} b {KNOWN}"],
)
def test_masking_a_text_leaves_no_part_of_a_key_in_it(text: str) -> None:
    masked = keyformat.mask_in(text)
    assert re.search("[0-9a-f]{8}", masked) is None
    assert keyformat.mask_in("/v1/accounts/my-account/key-buckets/b-0123456789abcdef") == (
        "/v1/accounts/my-account/key-buckets/b-0123456789abcdef"
    )


class TestSecret:
    def test_shows_itself_in_no_text_that_is_made_of_it(self, caplog: pytest.LogCaptureFixture) -> None:
        secret = Secret(KNOWN)
        try:
            raise ValueError(secret)
        except ValueError as error:
            told = traceback.format_exc() + str(error) + repr(error.args)
        logging.getLogger("test").warning("%s %r", secret, {"key": secret})

        shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, told]  # noqa: UP031
        shown += [repr([secret]), repr({"key": secret}), caplog.text]

        assert all("d67b" not in text and "7009" not in text for text in shown)
        assert secret.reveal() == KNOWN

    @pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_is_not_copied_to_where_it_could_be_read(self, copier: object) -> None:
        with pytest.raises(TypeError, match="not pickled"):
            copier(Secret(KNOWN))  # type: ignore[operator]

    def test_is_compared_by_digest_only(self) -> None:
        with pytest.raises(TypeError, match="digest"):
            _ = Secret(KNOWN) == Secret(KNOWN)
        with pytest.raises(TypeError, match="unhashable"):
            hash(Secret(KNOWN))
        assert not hasattr(Secret(KNOWN), "__dict__")


class TestDigester:
    @given(st.binary(max_size=200), st.text(st.characters(exclude_categories=("Cs",)), max_size=600))
    def test_gives_the_very_bytes_of_hmac_sha_256(self, pepper: bytes, secret: str) -> None:
        assert Digester(pepper).digest(secret) == hmac.digest(pepper, secret.encode(), hashlib.sha256)

    @pytest.mark.parametrize("length", [0, 32, 63, 64, 65, 128, 1000])
    def test_takes_peppers_of_every_length(self, length: int) -> None:
        pepper = bytes(range(256)) * 4
        expected = hmac.digest(pepper[:length], KNOWN.encode(), hashlib.sha256)
        assert Digester(pepper[:length]).digest(KNOWN) == expected
        assert len(expected) == keyformat.DIGEST_BYTES

    def test_keeps_nothing_of_one_secret_for_the_next(self) -> None:
        digester = Digester(b"p" * 32)
        first = digester.digest(KNOWN)
        digester.digest("another-secret")
        assert digester.digest(KNOWN) == first

    def test_refuses_what_no_key_can_hold(self) -> None:
        with pytest.raises(UnicodeEncodeError):
            Digester(b"p" * 32).digest("zpka_\ud800")

    def test_tells_peppers_apart_without_telling_them(self) -> None:
        one, other = Digester(b"a" * 32).pepper_check(), Digester(b"b" * 32).pepper_check()
        assert one != other
        assert re.fullmatch("[0-9a-f]{16}", one)
        assert one == Digester(b"a" * 32).pepper_check()
