"""Owns the command line's client of the Developer API: addresses, the bearer, retries after a 429, failures in words.

Every failure becomes one CommandFailed. Neither it nor its cause holds the management key: the key is checked before
it becomes a header, so no library has a reason to quote it.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from keywright import __version__
from keywright.cli.columns import plain
from keywright.cli.failures import CommandFailed
from keywright.cli.printing import Answer, warn
from keywright.domain import keyformat
from keywright.runtime.settings import SettingsError, variables
from keywright.runtime.settings.kinds import Part
from keywright.runtime.settings.other_parts import MANAGEMENT_KEY
from keywright.runtime.settings.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keywright.cli.shared_options import ListRange

PAGE_SIZE = 1000
TIMEOUT_SECONDS = 30.0
MAX_TRIES = 5
MAX_WAIT_SECONDS = 60
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Params = dict[str, str | int]


class Api:
    """The Developer API at `url`, as the holder of the management key in KEYWRIGHT_MANAGEMENT_KEY.

    Paths are given as segments below `/v1/accounts/{account}/`. Without an `account` it is the management key's.
    """

    def __init__(
        self,
        url: str,
        account: str | None,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _checked_url(url)
        self._account = account
        self._sleep = sleep
        self._client = httpx2.Client(
            headers={
                "authorization": f"Bearer {_management_key()}",
                "accept": "application/json",
                "user-agent": f"keywright-cli/{__version__}",
            },
            timeout=TIMEOUT_SECONDS,
            transport=transport,
            # A proxy for the internet has no business with keys of this machine.
            mounts={f"all://{host}": None for host in _LOOPBACK} if transport is None else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, *segments: str, params: Params | None = None) -> Answer:
        return self._in_account("GET", segments, params=params)

    def post(
        self, *segments: str, body: Any = None, params: Params | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return self._in_account("POST", segments, body=body, params=params, headers=headers)

    def patch(self, *segments: str, body: Any) -> Answer:
        return self._in_account("PATCH", segments, body=body)

    def delete(self, *segments: str) -> Answer:
        return self._in_account("DELETE", segments)

    def get_list(self, *segments: str, within: ListRange, params: Params | None = None) -> Answer:
        """One page of a list, or with `within.is_everything` all pages in one document of the same shape."""
        asked: Params = {
            **(params or {}),
            "limit": PAGE_SIZE if within.is_everything else within.limit or PAGE_SIZE,
            "offset": within.offset,
        }
        first = self.get(*segments, params=asked)
        if not within.is_everything:
            return first
        # By id: what is created while we read moves older rows onto the next page, where they would come again.
        rows = {row["id"]: row for row in first.value["data"]}
        seen, total = within.offset + len(first.value["data"]), first.value.get("total", 0)
        while seen < total:
            following = self.get(*segments, params={**asked, "offset": seen}).value
            if not following["data"]:
                break
            rows.update((row["id"], row) for row in following["data"])
            seen, total = seen + len(following["data"]), following.get("total", total)
        value = {"data": list(rows.values()), "limit": len(rows), "offset": within.offset, "total": total}
        return Answer(json.dumps(value, ensure_ascii=False), value)

    def validate(self, bucket: str, question: Mapping[str, Any]) -> Answer:
        """The verdict on a key. The management key is shown, too, for where that is demanded."""
        token = self._client.headers["authorization"].removeprefix("Bearer ")
        path = f"/v2/validate/{_segment(bucket)}"
        return self._send("POST", path, body=question, headers={"keywright-token": token})

    def _in_account(self, method: str, segments: tuple[str, ...], **request: Any) -> Answer:
        if self._account is None:
            self._account = self._send("GET", "/v1/who-am-i").value.get("account")
            if self._account is None:
                raise CommandFailed("this management key belongs to no account; name one with --account")
        path = "/".join(_segment(each) for each in (self._account, *segments))
        return self._send(method, f"/v1/accounts/{path}", **request)

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                response = self._client.request(method, self._url + path, json=body, params=params, headers=headers)
            except httpx2.HTTPError as error:
                raise CommandFailed(self._meaning(error)) from None
            wait_seconds = _wait_seconds(response)
            # 429 is answered before anything is done, so asking again repeats nothing.
            if response.status_code != 429 or not tries_left or wait_seconds > MAX_WAIT_SECONDS:
                break
            self._sleep(wait_seconds)
        return self._answer(response)

    def _answer(self, response: httpx2.Response) -> Answer:
        if response.status_code == 204:
            return Answer("", {})
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            what = f"{response.status_code} {response.reason_phrase}".strip()
            raise CommandFailed(f"{self._url} doesn't answer like Keywright ({plain(what)}); check --url")
        if not response.is_success:
            raise CommandFailed(_refusal(response.status_code, value))
        return Answer(response.text, value)

    def _meaning(self, error: httpx2.HTTPError) -> str:
        reason = plain(str(error))
        if isinstance(error, httpx2.ConnectError) and "refused" in reason.lower():
            return f"nothing answers at {self._url}; is `keywright serve` running?"
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError):
            return f"can't reach {self._url}: {reason}"
        if isinstance(error, httpx2.TimeoutException):
            return f"{self._url} didn't answer within {TIMEOUT_SECONDS:.0f} seconds; a change may have been made"
        return f"the connection to {self._url} broke before the answer; a change may have been made ({reason})"


def _management_key() -> str:
    """The management key in its variable, or in the one of the old name. Raises CommandFailed."""
    try:
        secret = Reader(os.environ, {}).get(MANAGEMENT_KEY)
    except SettingsError as error:
        raise CommandFailed(str(error)) from None
    if secret is None:
        raise CommandFailed(
            f"no management key; set it with `export {MANAGEMENT_KEY.name}=...`\n"
            "  (`keywright serve` prints the first one when it starts for the first time)"
        )
    name = MANAGEMENT_KEY.name
    for old in variables.old_names_in(os.environ, Part.CLI):
        warn(f"{old} is deprecated; use {MANAGEMENT_KEY.name}")
        name = old
    if not keyformat.is_possible(secret.reveal()):
        raise CommandFailed(f"{name} doesn't hold a key; was it cut short or mistyped?")
    return secret.reveal()


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        is_bare = not (parts.query or parts.fragment or parts.username or parts.password)
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        is_right = is_bare = False
    if not (is_right and is_bare):
        # Not quoted: it may hold a password.
        raise CommandFailed("--url (KEYWRIGHT_URL) must look like http://127.0.0.1:8080")
    return url.rstrip("/")


def _segment(name: str) -> str:
    """A name as one segment of a path."""
    # "." and ".." are taken out of a path even when they are percent-encoded: `consumers delete ..` would ask to delete
    # the bucket. An empty name would address the collection.
    if name in {"", ".", ".."}:
        raise CommandFailed(f"'{name}' is not a name or an id")
    return quote(name, safe="", errors="surrogateescape")


def _wait_seconds(response: httpx2.Response) -> int:
    text = response.headers.get("retry-after", "")
    return int(text) if text.isascii() and text.isdigit() else 1


def _refusal(status: int, problem: Mapping[str, Any]) -> str:
    """A problem document (RFC 9457) in words: its detail, then each field that breaks a rule on a line of its own."""
    lines = [plain(str(problem.get("detail") or problem.get("title") or f"the API answered {status}"))]
    for error in problem.get("errors") or []:
        if isinstance(error, dict):
            lines.append(plain(f"  {error.get('field', '?')}: {error.get('message', '')}"))
    if status == 401:
        lines.append(f"  The management key is that of {MANAGEMENT_KEY.name}; is it one of this deployment?")
    if status >= 500 and "requestId" in problem:
        lines.append(plain(f"  request id: {problem['requestId']}"))
    return "\n".join(lines)
