"""The client waits when told to, sends nothing to the wrong address, and turns every failure into a clear line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from keywright.cli.api_client import Api
from keywright.cli.failures import CommandFailed
from keywright.cli.shared_options import ListRange

if TYPE_CHECKING:
    from conftest import CommandLine

SECRET = "zpka_d67b7e241bb948758f415b79aa8ec822_2efb7009"
URL = "http://keys.example:8080"


@pytest.fixture
def open_api(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    """An Api whose requests are answered by a function, and whose sleeps are noted in `naps`."""
    monkeypatch.setenv("KEYWRIGHT_MANAGEMENT_KEY", SECRET)

    def open_it(respond: Callable[[httpx2.Request], httpx2.Response], naps: list[float] | None = None) -> Api:
        sleep = (naps if naps is not None else []).append
        return Api(URL, "my-account", transport=httpx2.MockTransport(respond), sleep=sleep)

    return open_it


def test_a_429_is_waited_for_as_long_as_it_says(open_api: Callable[..., Api]) -> None:
    responses = [httpx2.Response(429, headers={"retry-after": "3"}, json={}), httpx2.Response(200, json={"name": "b"})]
    naps: list[float] = []

    with open_api(lambda _: responses.pop(0), naps) as api:
        answer = api.get("key-buckets", "b")

    assert answer.value == {"name": "b"}
    assert naps == [3]


def test_a_429_that_does_not_end_is_given_up(open_api: Callable[..., Api]) -> None:
    naps: list[float] = []
    refusal = httpx2.Response(429, headers={"retry-after": "soon"}, json={"title": "Too Many Requests"})

    with open_api(lambda _: refusal, naps) as api, pytest.raises(CommandFailed, match="Too Many Requests"):
        api.get("key-buckets")

    assert naps == [1, 1, 1, 1]


def test_a_429_for_longer_than_a_minute_is_not_waited_for(open_api: Callable[..., Api]) -> None:
    naps: list[float] = []
    refusal = httpx2.Response(429, headers={"retry-after": "3600"}, json={"title": "Too Many Requests"})

    with open_api(lambda _: refusal, naps) as api, pytest.raises(CommandFailed):
        api.get("key-buckets")

    assert naps == []


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (httpx2.ConnectError("[Errno -2] Name or service not known"), f"can't reach {URL}: [Errno -2] Name or"),
        (httpx2.ConnectTimeout("timed out"), f"can't reach {URL}: timed out"),
        (httpx2.ReadTimeout("timed out"), f"{URL} didn't answer within 30 seconds; a change may have been made"),
        (httpx2.RemoteProtocolError("gone"), f"the connection to {URL} broke before the answer; a change may"),
    ],
    ids=["no such host", "no route", "silence", "broken"],
)
def test_what_goes_wrong_on_the_way_is_said(open_api: Callable[..., Api], error: Exception, line: str) -> None:
    def respond(_: httpx2.Request) -> httpx2.Response:
        raise error

    with open_api(respond) as api, pytest.raises(CommandFailed) as failure:
        api.post("key-buckets", body={})

    assert str(failure.value).startswith(line)


@pytest.mark.parametrize(
    "response",
    [
        httpx2.Response(502, html="<h1>Bad Gateway</h1>"),
        httpx2.Response(200, text="hello"),
        httpx2.Response(200, json=["a list"]),
        httpx2.Response(301, headers={"location": "https://elsewhere"}),
    ],
    ids=["a proxy's error", "a page", "other JSON", "a redirect"],
)
def test_another_server_is_recognised(open_api: Callable[..., Api], response: httpx2.Response) -> None:
    with open_api(lambda _: response) as api, pytest.raises(CommandFailed, match="doesn't answer like Keywright"):
        api.get("key-buckets")


def test_all_pages_are_read_and_a_row_that_moved_comes_once(open_api: Callable[..., Api]) -> None:
    pages = {"0": ["c", "b"], "2": ["b", "a"]}

    def respond(request: httpx2.Request) -> httpx2.Response:
        data = [{"id": name} for name in pages.get(request.url.params["offset"], [])]
        return httpx2.Response(200, json={"data": data, "limit": 1000, "offset": 0, "total": 5})

    with open_api(respond) as api:
        answer = api.get_list("key-buckets", within=ListRange(is_everything=True))

    assert [row["id"] for row in answer.value["data"]] == ["c", "b", "a"]


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_address_something_else_is_never_sent(open_api: Callable[..., Api], name: str) -> None:
    def respond(_: httpx2.Request) -> httpx2.Response:
        pytest.fail("sent")

    with open_api(respond) as api, pytest.raises(CommandFailed, match="is not a name"):
        api.delete("key-buckets", "my-bucket", "consumers", name)


@pytest.mark.parametrize(
    "url", ["", "keys.example", "ftp://keys", "http://", "http://jo:pw@keys", "http://k:x", "http://k?q"]
)
def test_an_address_that_is_none(keywright: CommandLine, url: str) -> None:
    result = keywright("buckets", "list", "--url", url)

    expected = "keywright: --url (KEYWRIGHT_URL) must look like http://127.0.0.1:8080\n"
    assert (result.exit_code, result.stderr) == (1, expected)


def test_nothing_answers(keywright: CommandLine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

    result = keywright("buckets", "list", "--url", url)

    expected = f"keywright: nothing answers at {url}; is `keywright serve` running?\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)


def test_a_proxy_is_not_asked_about_this_machine(keywright: CommandLine) -> None:
    keywright.api.answer("GET", "/v1/accounts/my-account/key-buckets/b", {"name": "b"})

    result = keywright(
        "buckets", "get", "b", env={"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    )

    assert result.exit_code == 0


@pytest.mark.parametrize("key", [None, "", "  "])
def test_without_a_management_key_it_says_how_to_set_it(keywright: CommandLine, key: str | None) -> None:
    result = keywright("buckets", "list", env={"KEYWRIGHT_MANAGEMENT_KEY": key})

    assert result.exit_code == 1
    assert result.stderr.startswith("keywright: no management key; set it with `export KEYWRIGHT_MANAGEMENT_KEY=...`\n")


def test_the_old_name_of_the_variable_works_with_one_warning(keywright: CommandLine) -> None:
    keywright.api.answer("GET", "/v1/accounts/my-account/key-buckets/b", {"name": "b"})

    result = keywright("buckets", "get", "b", env={"KEYWRIGHT_MANAGEMENT_KEY": None, "KEYWRIGHT_API_KEY": SECRET})

    warning = "keywright: warning: KEYWRIGHT_API_KEY is deprecated; use KEYWRIGHT_MANAGEMENT_KEY\n"
    assert (result.exit_code, result.stderr) == (0, warning)
    assert keywright.api.last.headers["authorization"] == f"Bearer {SECRET}"


def test_both_names_of_the_variable_with_one_value_are_fine(keywright: CommandLine) -> None:
    keywright.api.answer("GET", "/v1/accounts/my-account/key-buckets/b", {"name": "b"})

    result = keywright("buckets", "get", "b", env={"KEYWRIGHT_API_KEY": SECRET})

    assert (result.exit_code, result.stderr) == (0, "")


def test_both_names_of_the_variable_with_two_values_are_refused(keywright: CommandLine) -> None:
    result = keywright("buckets", "get", "b", env={"KEYWRIGHT_API_KEY": "another-key-0001"})

    expected = "keywright: KEYWRIGHT_MANAGEMENT_KEY and KEYWRIGHT_API_KEY (its old name) differ; unset one of them\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", expected)
    assert not keywright.api.requests


@pytest.mark.parametrize("key", [SECRET[:-1] + "0", f"{SECRET}\nx", "Schlüssel-0001", f"Bearer {SECRET}"])
def test_what_is_no_key_is_not_sent_and_not_quoted(keywright: CommandLine, key: str) -> None:
    result = keywright("buckets", "list", env={"KEYWRIGHT_MANAGEMENT_KEY": key})

    assert (result.exit_code, result.stderr) == (
        1,
        "keywright: KEYWRIGHT_MANAGEMENT_KEY doesn't hold a key; was it cut short or mistyped?\n",
    )
    assert not keywright.api.requests


def test_a_problem_is_told_line_by_line(keywright: CommandLine) -> None:
    errors = [
        {"field": "body.name", "message": "must be 5 to 128 characters"},
        {"field": "body.tags", "message": "5 at most"},
    ]
    problem = {"title": "Bad Request", "status": 400, "detail": "The body breaks 2 rules.", "errors": errors}
    keywright.api.answer("POST", "/v1/accounts/my-account/key-buckets", problem, status=400)

    result = keywright("buckets", "create", "b")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "keywright: The body breaks 2 rules.",
        "  body.name: must be 5 to 128 characters",
        "  body.tags: 5 at most",
    ]


@pytest.mark.parametrize(
    ("status", "problem", "last_line"),
    [
        (
            401,
            {"title": "Unauthorized"},
            "  The management key is that of KEYWRIGHT_MANAGEMENT_KEY; is it one of this deployment?",
        ),
        (404, {"title": "Not Found", "detail": "There is no bucket b."}, "keywright: There is no bucket b."),
        (409, {"title": "Conflict"}, "keywright: Conflict"),
        (500, {"title": "Internal Server Error", "requestId": "abc"}, "  request id: abc"),
        (400, {"errors": "odd"}, "keywright: the API answered 400"),
        (400, {"detail": "\x1b[2J"}, "keywright: \\x1b[2J"),
    ],
)
def test_refusals(keywright: CommandLine, status: int, problem: dict[str, Any], last_line: str) -> None:
    keywright.api.answer("GET", "/v1/accounts/my-account/key-buckets/b", problem, status=status)

    result = keywright("buckets", "get", "b")

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, last_line)


def test_an_account_that_is_given_is_not_asked_for(keywright: CommandLine) -> None:
    keywright.api.answer("GET", "/v1/accounts/other/key-buckets/b", {"name": "b"})

    keywright("buckets", "get", "b", "--account", "other")

    assert [request.path for request in keywright.api.requests] == ["/v1/accounts/other/key-buckets/b"]


def test_the_bearer_is_the_management_key_and_names_are_encoded(keywright: CommandLine) -> None:
    keywright("buckets", "get", "a/b?c d%é")

    assert keywright.api.last.headers["authorization"] == f"Bearer {SECRET}"
    assert keywright.api.last.path == "/v1/accounts/my-account/key-buckets/a%2Fb%3Fc%20d%25%C3%A9"
