"""POST /v1/validate: the answer's exact bytes, and no input that makes it fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edge.asgi import call
from edge.http.questions import ASK, PATH
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, bucket, consumer, key
from endpoints.table import BUCKET, EXPIRED, VALID
from keywright.edge.http.validate import MAX_BODY_BYTES, ValidateApi
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica


async def test_a_valid_key_is_answered_to_the_letter(replica: Replica) -> None:
    owner = consumer(1, 1, "my-consumer", '{"testId":"1234"}')
    put = key(VALID, 1, 1, NOW + 1)
    replica.load("dep_1", PEPPER_CHECK, at(1), [bucket(1, BUCKET), owner, put])
    app = ValidateApi(Validator(replica, DIGESTER, clock=lambda: NOW))
    answer = await call(app, "POST", PATH, body=ASK, headers=[(b"x-request-id", b"req-1")])
    assert answer.body.decode() == (
        '{"valid":true,"code":"VALID","user":{"sub":"my-consumer","data":{"testId":"1234"}},'
        f'"consumer":{{"id":"{owner.consumer_id}","name":"my-consumer"}},'
        f'"key":{{"id":"{put.key_id}","expiresOn":"2027-01-15T08:00:00.001Z"}}}}'
    )
    assert answer.headers == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "content-length": str(len(answer.body)),
        "x-request-id": "req-1",
    }


async def test_a_key_without_end_has_expires_on_null(api: ValidateApi) -> None:
    answer = await call(api, "POST", PATH, body=ASK)
    assert answer.json()["key"]["expiresOn"] is None


async def test_a_refused_key_is_answered_to_the_letter(api: ValidateApi) -> None:
    answer = await call(api, "POST", PATH, body=json.dumps({"key": EXPIRED}).encode())
    assert (answer.status, answer.body) == (200, b'{"valid":false,"code":"EXPIRED"}')


BAD_BODIES = {
    "empty": (b"", "body"),
    "not JSON": (b"key=zpka_secret", "body"),
    "cut off": (ASK[:-1], "body"),
    "more behind": (ASK + b"x", "body"),
    "invalid UTF-8": (b'{"key":"\xff\xfe"}', "body"),
    "lone surrogate": (b'{"key":"\\ud800"}', "body"),
    "NaN": (b'{"key":NaN}', "body"),
    "deep nesting": (b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b',"key":"a"}', "body"),
    "deep nesting, open": (b"[" * 60_000, "body"),
    "array": (b'["zpka_secret"]', "body"),
    "string": (b'"zpka_secret"', "body"),
    "null": (b"null", "body"),
    "no key": (b"{}", "body.key"),
    "key of other case": (b'{"Key":"zpka_secret"}', "body.key"),
    "number": (b'{"key":12345678}', "body.key"),
    "null key": (b'{"key":null}', "body.key"),
    "object": (b'{"key":{"key":"zpka_secret"}}', "body.key"),
    "UTF-16": ('{"key":"zpka_secret"}'.encode("utf-16"), "body"),
}


@pytest.mark.parametrize(("body", "field"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_body_of_another_shape_is_a_problem_that_names_the_field(
    api: ValidateApi, body: bytes, field: str
) -> None:
    answer = await call(api, "POST", PATH, body=body, headers=[(b"x-request-id", b"req-1")])
    document = answer.json()
    assert (answer.status, document["status"], document["title"]) == (400, 400, "Bad Request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == "https://httpproblems.com/http-status/400"
    assert (document["instance"], document["requestId"]) == (PATH, "req-1")
    assert [error["field"] for error in document["errors"]] == [field]
    assert b"zpka_secret" not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        b'{"other":[{"a":1}],"key":"%b","more":null}' % VALID.encode(),
        b'{"key":"wrong-one","key":"%b"}' % VALID.encode(),
        b' \n{"key" : "%b"}\n' % VALID.encode(),
        [ASK[:9], ASK[9:20], ASK[20:]],
    ],
    ids=["unknown fields", "a field twice", "spaces", "in pieces"],
)
async def test_a_body_that_has_the_key_in_it_is_understood(api: ValidateApi, body: bytes | list[bytes]) -> None:
    assert (await call(api, "POST", PATH, body=body)).json()["valid"] is True


async def test_a_body_that_came_whole_is_not_waited_for(api: ValidateApi) -> None:
    assert (await call(api, "POST", PATH, body=ASK)).receives == 1


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200), (b"application/json; charset=utf-8", 200), (b"Application/JSON", 200),
        (b"application/vnd.acme+json", 200), (b"text/plain", 415), (b"application/x-www-form-urlencoded", 415),
        (b"", 415), (b"\xff", 415), (b"application/jsonx", 415), (b"application/json" + b" " * 60_000 + b"x", 415),
    ],
)  # fmt: skip
async def test_only_json_is_taken_for_json(api: ValidateApi, content_type: bytes | None, status: int) -> None:
    assert (await call(api, "POST", PATH, body=ASK, content_type=content_type)).status == status


async def test_a_body_that_is_announced_too_large_is_not_read(api: ValidateApi) -> None:
    answer = await call(api, "POST", PATH, body=b" " * (MAX_BODY_BYTES + 1))
    assert (answer.status, answer.receives) == (413, 0)


async def test_a_body_in_pieces_is_read_up_to_the_limit(api: ValidateApi) -> None:
    answer = await call(api, "POST", PATH, body=[b" " * 16_384] * 100)
    assert (answer.status, answer.receives) == (413, 5)
    assert (await call(api, "POST", PATH, body=ASK.ljust(MAX_BODY_BYTES))).status == 200


@pytest.mark.parametrize("value", [b"x", b"-1", b"9" * 5000, b"\xb2", b"1"])
async def test_a_content_length_that_lies_harms_nothing(api: ValidateApi, value: bytes) -> None:
    answer = await call(api, "POST", PATH, body=[ASK], headers=[(b"content-length", value)])
    assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"])
async def test_another_method_than_post_is_405(api: ValidateApi, method: str) -> None:
    answer = await call(api, method, PATH)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert (answer.body == b"") is (method == "HEAD")


async def test_a_server_without_raw_paths_will_do(api: ValidateApi) -> None:
    assert (await call(api, "POST", PATH + "/", body=ASK, has_raw_path=False)).status == 200


@pytest.mark.parametrize("given", [None, b"", b" word", b"x" * 129, b"\xff", b"a\tb"])
async def test_a_request_id_is_made_where_none_can_be_repeated(api: ValidateApi, given: bytes | None) -> None:
    answer = await call(api, "GET", PATH, headers=[] if given is None else [(b"x-request-id", given)])
    assert len(answer.json()["requestId"]) == 32
    assert answer.headers["x-request-id"] == answer.json()["requestId"]
