"""Owns POST /v2/settle: what a reservation came to, by the token that /v2/validate gave with it (edge/quotas)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from keywright.domain.problems import (
    MethodNotAllowed,
    NotFound,
    Problem,
    ServiceUnavailable,
    UnsupportedMediaType,
)
from keywright.edge.http.endpoint import JSON_TYPE, encode_json, find_header, require_token, send_problem
from keywright.edge.http.questions.validate_question import parse_settling, refuse_token
from keywright.edge.quotas.reservations import UnknownReservation
from keywright.http.body import chunks_after, read_bounded
from keywright.http.request_id import request_id_in
from keywright.http.sparing_log import SparingLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from keywright.domain.reservations import Settlement
    from keywright.edge.http.endpoint import Receive, Scope, Send
    from keywright.edge.quotas.reservations import Reservations
    from keywright.edge.validator import Validator

PATH = "/v2/settle"
MAX_BODY_BYTES = 8 * 1024
_TOO_LARGE = f"The body may have {MAX_BODY_BYTES} bytes."
_UNKNOWN = (
    "There is no such reservation here. It was made at another edge, or this machine was started anew, or it is long "
    "over: what was reserved counts as used."
)
_log = logging.getLogger(__name__)


class SettleApi:
    """ASGI for the path."""

    def __init__(
        self,
        reservations: Reservations,
        validator: Validator,
        elapsed: Callable[[], float],
        *,
        token_required: bool = False,
    ) -> None:
        self._reservations = reservations
        self._validator = validator
        self._log = SparingLog(_log, elapsed)
        self._token_required = token_required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            settlement = await self._settle(scope, receive)
        except Problem as problem:
            await send_problem(scope, send, problem)
            return
        body = encode_json({"code": settlement.code, "taken": settlement.taken, "reserved": settlement.reserved})
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id_in(scope["headers"])),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _settle(self, scope: Scope, receive: Receive) -> Settlement:
        """Raises Problem."""
        if scope["method"] != "POST":
            raise MethodNotAllowed("A reservation is settled by POST.", headers={"allow": "POST"})
        content_type = find_header(scope, b"content-type")
        if content_type is not None and JSON_TYPE.fullmatch(content_type) is None:
            raise UnsupportedMediaType("The body must be application/json.")
        declared = (find_header(scope, b"content-length") or b"0").decode("latin-1")
        data = await read_bounded(chunks_after(b"", receive), MAX_BODY_BYTES, _TOO_LARGE, declared)
        token, cost = parse_settling(data)
        opened = self._reservations.open(token)
        if opened is None:
            raise refuse_token()
        if self._token_required:
            require_token(self._validator, scope, opened.bucket)
        try:
            return await self._reservations.settle(opened.reservation, cost)
        except UnknownReservation:
            raise NotFound(_UNKNOWN) from None
        except (OSError, ValueError) as error:
            self._log.note(f"reservations can't be settled: {error}", logging.ERROR)
            raise ServiceUnavailable("The reservation can't be settled now.", headers={"retry-after": "1"}) from None
