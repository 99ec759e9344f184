"""Who has which role, as it is written in a setting."""

from __future__ import annotations

import pytest

from keywright.domain.permissions import Access
from keywright.domain.roles import Role, least, parse


def test_addresses_have_roles_in_an_account_or_in_the_first_one() -> None:
    assert parse(["Ada@Example.com = admin", "partner:bo@example.com=viewer", "c=d@example.com=developer"]) == {
        "ada@example.com": {None: Role.ADMIN},
        "bo@example.com": {"partner": Role.VIEWER},
        "c=d@example.com": {None: Role.DEVELOPER},
    }
    assert parse([]) == {}


@pytest.mark.parametrize(
    "text",
    ["ada@example.com", "ada@example.com=", "ada@example.com=owner", "ada@example.com=Admin", "ada=admin", "=admin",
     "@example.com=admin", "ada@=admin", "a@b@c=admin", "a b@example.com=admin", "\u212aate@example.com=admin",
     "victim(1)@example.com=admin", '"victim"@example.com=admin'],
)  # fmt: skip
def test_what_names_nobody_or_no_role_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be e-mail=role"):
        parse([text])


def test_an_address_has_one_role_in_each_account() -> None:
    assert parse(["ada@example.com=viewer", "partner:ADA@example.com=admin"]) == {
        "ada@example.com": {None: Role.VIEWER, "partner": Role.ADMIN}
    }
    for account in ("", "partner:"):
        with pytest.raises(ValueError, match=r"names ada@example\.com twice in one account"):
            parse([f"{account}ada@example.com=viewer", f"{account}ADA@example.com=admin"])


def test_of_several_roles_the_least_is_told() -> None:
    assert least([Role.ADMIN]) is Role.ADMIN
    assert least([Role.ADMIN, Role.DEVELOPER]) is Role.DEVELOPER
    assert least([Role.VIEWER, Role.ADMIN]) is Role.VIEWER


@pytest.mark.parametrize(
    ("role", "account", "bucket"),
    [(Role.ADMIN, Access.WRITE, Access.WRITE), (Role.DEVELOPER, Access.READ, Access.WRITE),
     (Role.VIEWER, Access.READ, Access.READ)],
)  # fmt: skip
def test_how_far_a_role_reaches(role: Role, account: Access, bucket: Access) -> None:
    assert (role.permissions.account, role.permissions.on_bucket("any")) == (account, bucket)
