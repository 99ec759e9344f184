"""Owns how a request shows a key in a header, and what is said where that is refused: the same words at every endpoint.

The endpoints (edge/http/forward_auth.py, and policy/ in people's apps) find the header; what it holds is read here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from keywright.domain.problems import Forbidden, Unauthorized
from keywright.domain.verdict import Verdict
from keywright.http.rate_limit_fields import refuse_limited

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from keywright.domain.limit_states import LimitState
    from keywright.domain.problems import QuotaExceeded

DEFAULT_HEADER = "authorization"
DEFAULT_SCHEME = "Bearer"


class Fault(StrEnum):
    """Why there is no key to judge."""

    MISSING = "MISSING"
    AMBIGUOUS = "AMBIGUOUS"
    """More than one. Which of them one endpoint would take, another might not."""


class AuthHeader:
    """Where the key is: in the header `name`, after `scheme` (in any case) and spaces; "" for the bare header."""

    __slots__ = ("_beginnings", "_challenge", "_length", "name")

    def __init__(self, name: str = DEFAULT_HEADER, scheme: str = DEFAULT_SCHEME) -> None:
        self.name = name.lower().encode("ascii")
        spoken = scheme.lower().encode("ascii")
        self._beginnings = (spoken + b" ", spoken + b"\t")
        self._length = len(spoken) + 1 if spoken else 0
        # A bare header has no registered scheme; RFC 9110 section 11.6.1 wants a challenge all the same.
        self._challenge = scheme or "ApiKey"

    def find_secret(self, value: bytes) -> bytes | None:
        """What follows the scheme in a value of the header; None when there is nothing, or another scheme's."""
        length = self._length
        if length and value[:length].lower() not in self._beginnings:
            return None
        # RFC 9110 section 11.4: one space or several; section 5.5: a value has no white space at its end. What is
        # inside is left in: no key has it, so it is refused as malformed.
        return value[length:].lstrip(b" ").rstrip(b" \t") or None

    def refuse(  # noqa: PLR0911
        self,
        code: Fault | Verdict,
        bucket: str,
        scopes: Collection[str] = (),
        limits: Sequence[LimitState] = (),
    ) -> Unauthorized | Forbidden | QuotaExceeded:
        """The 401 for a request without a good key, the 403 for one whose key is not good for this, or the 429 for one
        whose key was good too often.

        For the verdicts on the key itself only. `scopes` are those that were demanded, `limits` those that hold.
        """
        match code:
            case Fault.MISSING:
                # RFC 6750 section 3.1: no error code where no credentials were shown.
                return self._unauthorized("There is no key in the request.", f'realm="{bucket}"')
            case Fault.AMBIGUOUS:
                # RFC 6750 section 3.1 says 400 here; gateways take other answers than 401 and 403 for a fault of ours.
                return self._unauthorized("There is more than one header with a key.", 'error="invalid_request"')
            case Verdict.MALFORMED:
                detail = "The key is malformed."
            case Verdict.UNKNOWN:
                detail = "The key is unknown."
            case Verdict.EXPIRED:
                detail = "The key has expired."
            case Verdict.DISABLED:
                detail = "The key is switched off."
            case Verdict.IP_NOT_ALLOWED:
                # No challenge: other credentials are not what it wants.
                return Forbidden("The key may not be used from this address.")
            case Verdict.INSUFFICIENT_SCOPE:
                return self._forbidden(scopes)
            case Verdict.RATE_LIMITED:
                return refuse_limited("The key was used too often.", limits)
            case Verdict.QUOTA_EXCEEDED:
                return refuse_limited("The key's quota is used up.", limits)
            case Verdict.VALID | Verdict.NO_BUCKET | Verdict.UNAVAILABLE:
                raise AssertionError(code)
        return self._unauthorized(detail, 'error="invalid_token"')

    def _forbidden(self, scopes: Collection[str]) -> Forbidden:
        # RFC 6750 section 3.1.
        wanted = " ".join(scopes)
        challenge = f'{self._challenge} error="insufficient_scope", scope="{wanted}"'
        return Forbidden(f"The key is not good for this: {wanted}.", headers={"www-authenticate": challenge})

    def _unauthorized(self, detail: str, parameters: str) -> Unauthorized:
        return Unauthorized(detail, headers={"www-authenticate": f"{self._challenge} {parameters}"})
