"""Owns the roles of the provider's own people in the admin portal: who has which, and how far each reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from keywright.domain.permissions import EVERY_BUCKET, Access, Permissions
from keywright.domain.text import is_email


class Role(StrEnum):
    ADMIN = "admin"
    """Everything in the account."""
    DEVELOPER = "developer"
    """Consumers and their keys in every bucket; what buckets are and who holds their keys is read only."""
    VIEWER = "viewer"

    @property
    def permissions(self) -> Permissions:
        return _PERMISSIONS[self]


_PERMISSIONS = {
    Role.ADMIN: Permissions(account=Access.WRITE, feed=True),
    Role.DEVELOPER: Permissions(account=Access.READ, buckets={EVERY_BUCKET: Access.WRITE}),
    Role.VIEWER: Permissions(account=Access.READ),
}


Held = Mapping[str | None, Role]
"""What somebody is in each account, by its name; None is the account that the deployment was started with."""


def least(held: Iterable[Role]) -> Role:
    """The role that may do no more than any of the others."""
    return max(held, key=list(Role).index)


def parse(parts: Sequence[str]) -> Mapping[str, Held]:
    """Roles by e-mail address, from `ada@example.com=admin` and `partner:bo@example.com=viewer`.

    Raises ValueError with what is wrong, in words that follow the name of a setting.
    """
    found: dict[str, dict[str | None, Role]] = {}
    for part in parts:
        who, _, role = (one.strip() for one in part.rpartition("="))
        account_name, _, email = (one.strip().lower() for one in who.rpartition(":"))
        # ASCII as it was written: a letter that becomes an ASCII one in lower case is another mailbox.
        if role not in set(Role) or not who.isascii() or not is_email(email):
            raise ValueError(f"must be e-mail=role, the role one of {', '.join(Role)}, not {part[:80]!r}")
        roles = found.setdefault(email, {})
        if (account_name or None) in roles:
            # Two roles would be two answers to one question.
            raise ValueError(f"names {email} twice in one account: an address has one role in each")
        roles[account_name or None] = Role(role)
    return found
