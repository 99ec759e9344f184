"""What the text of a key promises: its checksum, its mask, its digest, and that it stays hidden."""

from __future__ import annotations

import copy
import hashlib
import hmac
import logging
import math
import pickle
import re
import secrets
import string
import traceback
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, given
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
    assume(not any(word in f"{random.hex()}_{keyformat.checksum(random.hex())}" for word in keyformat.STOP_WORDS))
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


def bytes_of(*texts: str) -> Callable[[int], bytes]:
    """A source that gives these random parts, one after the other."""
    parts = iter(texts)
    return lambda count: bytes.fromhex(next(parts))


@pytest.mark.parametrize(
    "drawn",
    [
        *(f"{'0f' * at}{word}{'0f' * (14 - at)}" for word in ("dead", "feed") for at in (0, 5, 14)),
        "1" + "dead" + "1" * 27,
        "00000011223344556677889911223344",
        "1122334455667788991122334aaaaaa4",
        "11223344556677889911223344556add",
        "00112233445566778899aabb00000c65",
        "00112233445566778899aabb000064c1",
    ],
)
def test_a_secret_that_spells_a_stop_word_is_drawn_again(drawn: str) -> None:
    good = "d67b7e241bb948758f415b79aa8ec822"
    body = f"{drawn}_{keyformat.checksum(drawn)}"
    assert any(word in body for word in keyformat.STOP_WORDS)
    assert keyformat.generate("kwak", bytes_of(drawn, drawn, good)).reveal() == f"kwak_{good}_2efb7009"


@pytest.mark.parametrize("drawn", ["0add" + "1" * 28, "f0dea0d" + "1" * 25, "0" * 5 + "1" * 27, "1" * 32])
def test_a_secret_that_nearly_spells_one_is_taken(drawn: str) -> None:
    assert keyformat.generate("kwak", bytes_of(drawn)).reveal() == f"kwak_{drawn}_{keyformat.checksum(drawn)}"


def test_a_source_that_repeats_itself_is_given_up() -> None:
    with pytest.raises(RuntimeError, match="repeats itself"):
        keyformat.generate("kwak", lambda count: b"\xde\xad" * (count // 2))


def test_stop_words_cost_two_thousandths_of_a_bit_and_so_many_bits_stay() -> None:
    def count(length: int, refused: Callable[[str], bool]) -> int:
        """How many texts of hex there are that hold no stop word and do not end so, by what they end with."""
        ends = {"": 1}
        for _ in range(length):
            following: Counter[str] = Counter()
            for end, number in ends.items():
                for digit in string.hexdigits[:16]:
                    text = end + digit
                    if any(text.endswith(word) for word in keyformat.STOP_WORDS):
                        continue
                    while text and not any(word.startswith(text) for word in keyformat.STOP_WORDS):
                        text = text[1:]
                    following[text] += number
            ends = dict(following)
        return sum(number for end, number in ends.items() if not refused(end))

    random = count(32, lambda end: end.endswith("add")) / 16**32
    check = count(8, lambda _: False) / 16**8
    assert math.log2(random) == pytest.approx(-0.00163, abs=1e-5)
    assert 128 + math.log2(random * check) == pytest.approx(127.99815, abs=1e-5)
    assert 1 / (1 - random * check) == pytest.approx(779, abs=1)


def test_two_generated_keys_differ() -> None:
    made = {keyformat.generate("zpka", secrets.token_bytes).reveal() for _ in range(1000)}
    assert len(made) == 1000


def test_keys_are_found_wherever_they_stand_in_a_text_and_nowhere_else() -> None:
    second = keyformat.generate("acme", lambda count: b"\x11" * count).reveal()
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
