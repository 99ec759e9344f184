"""An e-mail address is one user and one mailbox: what two parsers may read as two things is none."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywright.domain.text import EMAIL, is_email

ODD = [
    "victim(1)@example.com", "victim@example.com(1)", "(1)victim@example.com", '"victim"@example.com',
    "<victim@example.com>", "x<victim@example.com>", "victim@example.com.", ".victim@example.com",
    "victim.@example.com", "vic..tim@example.com", "victim@example..com", "victim@-example.com", "victim@example.com-",
    "victim@[127.0.0.1]", "victim@example.com\n", "a,victim@example.com", "a:victim@example.com",
    "a;victim@example.com", "a\\@example.com",
    "victim@exam\\ple.com", "v\u0130ctim@example.com", "\u212aate@example.com", "victim@\uff45xample.com",
    "victim@ex\u00e4mple.com", "victim@example\u3002com", "vic\u00adtim@example.com", "v@a@example.com", "@example.com",
    "victim@", "victim", "", "x" * 65 + "@example.com", "x@" + "x" * 320,
]  # fmt: skip
PLAIN = [
    "ada@example.com", "Ada.Lovelace+keys@mail.Example.co.uk", "o'brien@example.com", "a_b-c=d{e}|f~@example.com",
    "1@2", "root@localhost", "ada@xn--exmple-cua.com", "x" * 64 + "@example.com", "srs0=a/b?c=d%e@mail_in.example.com",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_what_has_two_readings_is_no_address(text: str) -> None:
    assert not is_email(text)


@pytest.mark.parametrize("text", PLAIN)
def test_an_address_of_every_day_is_one(text: str) -> None:
    assert is_email(text)


@given(st.from_regex(re.compile(EMAIL), fullmatch=True) | st.emails() | st.text(max_size=12).map(lambda s: f"{s}@b.c"))
def test_whatever_is_taken_for_an_address_parses_to_itself(text: str) -> None:
    if is_email(text):
        assert Address(addr_spec=text).addr_spec == text
        assert parseaddr(text) == ("", text)
        assert text.isascii()
