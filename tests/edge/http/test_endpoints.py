"""What the endpoints for validation guarantee: the answer's exact bytes, and no input that makes them fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from edge.asgi import call
from edge.world import DIGESTER, NOW, PEPPER_CHECK, at, batch, bucket, consumer, key
from endpoints.table import BUCKET, EXPIRED, EXPIRING, METADATA, VALID, fill
from keywright.domain.identity_headers import IDENTITY_HEADERS, rename
from keywright.edge.http.forward_auth import ForwardAuth
from keywright.edge.http.validate import MAX_BODY_BYTES, ValidateApi
from keywright.edge.validator import Validator

if TYPE_CHECKING:
    from keywright.edge.replica.replica import Replica

PATH = f"/v1/validate/{BUCKET}"
AUTH = f"/v1/forward-auth/{BUCKET}"
ASK = json.dumps({"key": VALID}).encode()
BEARER = [(b"authorization", b"Bearer " + VALID.encode())]


@pytest.fixture
def validator(replica: Replica) -> Validator:
    fill(replica)
    return Validator(replica, DIGESTER, clock=lambda: NOW)


@pytest.fixture
def empty_validator(replica: Replica) -> Validator:
    return Validator(replica, DIGESTER, clock=lambda: NOW)


@pytest.fixture
def api(validator: Validator) -> ValidateApi:
    return ValidateApi(validator)


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


@pytest.mark.parametrize(
    ("bucket_path", "status"),
    [
        ("my-bucket", 200), ("my-bucket/", 200), ("my%2Dbucket", 200), ("%6dy-bucket/", 200), ("", 404), ("/", 404),
        ("my-bucket//", 404), ("my-bucket/x", 404), ("my-bucket%2F", 404), ("a%2fmy-bucket", 404), ("my%20bucket", 404),
        ("my-bucket%00", 404), ("%ff%fe", 404), ("%ED%A0%80", 404), ("%2E%2E", 404), ("_system", 404), ("x/%2f", 404),
        ("%zz", 404), ("x" * 8000, 404), ("My-Bucket", 404),
    ],
)  # fmt: skip
async def test_the_bucket_is_one_segment_of_the_path(
    api: ValidateApi, validator: Validator, bucket_path: str, status: int
) -> None:
    assert (await call(api, "POST", f"/v1/validate/{bucket_path}", body=ASK)).status == status
    answer = await call(ForwardAuth(validator), "GET", f"/v1/forward-auth/{bucket_path}", headers=BEARER)
    # Envoy puts the path that it asks about behind ours.
    assert answer.status == (200 if bucket_path in ("my-bucket//", "my-bucket/x") else status)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("my-bucket/../other-bucket", 200), ("my-bucket/%2e%2e/nowhere", 200), ("my-bucket/a%2Fb?c=%2F", 200),
        ("nowhere/../my-bucket", 404), ("/my-bucket", 404), ("nowhere/my-bucket", 404),
        ("nowhere%2f..%2fmy-bucket", 404),
    ],
)  # fmt: skip
async def test_the_path_that_envoy_asks_about_chooses_no_bucket(validator: Validator, path: str, status: int) -> None:
    answer = await call(ForwardAuth(validator), "GET", f"/v1/forward-auth/{path}", headers=BEARER)
    assert answer.status == status


async def test_a_server_without_raw_paths_will_do(api: ValidateApi) -> None:
    assert (await call(api, "POST", PATH + "/", body=ASK, has_raw_path=False)).status == 200


async def test_before_the_first_snapshot_both_endpoints_say_503(empty_validator: Validator) -> None:
    for app, method, path in (
        (ValidateApi(empty_validator), "POST", PATH),
        (ForwardAuth(empty_validator), "GET", AUTH),
        (ValidateApi(empty_validator, token_required=True), "POST", PATH),
        (ForwardAuth(empty_validator, token_required=True), "GET", AUTH),
    ):
        headers = [*BEARER, (b"keywright-token", VALID.encode())]
        answer = await call(app, method, path, body=ASK, headers=headers)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("given", [None, b"", b" word", b"x" * 129, b"\xff", b"a\tb"])
async def test_a_request_id_is_made_where_none_can_be_repeated(api: ValidateApi, given: bytes | None) -> None:
    answer = await call(api, "GET", PATH, headers=[] if given is None else [(b"x-request-id", given)])
    assert len(answer.json()["requestId"]) == 32
    assert answer.headers["x-request-id"] == answer.json()["requestId"]


async def test_the_token_is_asked_for_when_required(replica: Replica) -> None:
    fill(replica)
    token = "zpka_a-management-key"
    replica.apply(_token_changes(replica, token))
    validator = Validator(replica, DIGESTER, clock=lambda: NOW)
    api, auth = ValidateApi(validator, token_required=True), ForwardAuth(validator, token_required=True)
    for value, status in (
        (None, 403),
        (b"nonsense", 403),
        (VALID.encode(), 403),
        (b"\xff\xfe", 403),
        (token.encode(), 200),
    ):
        headers = [] if value is None else [(b"keywright-token", value)]
        assert (await call(api, "POST", PATH, body=ASK, headers=headers)).status == status
        answer = await call(auth, "GET", AUTH, headers=[*BEARER, *headers])
        assert answer.status == status
        assert "x-consumer-name" in answer.headers


def _token_changes(replica: Replica, token: str) -> object:
    return batch(replica.revision or 0, [key(token, 4, 5)])


async def test_the_header_and_the_scheme_are_options(validator: Validator) -> None:
    bare = ForwardAuth(validator, auth_header="X-API-Key", auth_scheme="")
    answer = await call(bare, "GET", AUTH, headers=[(b"x-api-key", VALID.encode())])
    assert answer.headers["x-consumer-name"] == "my-consumer"
    for headers in ([], [(b"x-api-key", b"")], BEARER):
        answer = await call(bare, "GET", AUTH, headers=headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'ApiKey realm="my-bucket"')
    token = ForwardAuth(validator, auth_scheme="Token")
    answer = await call(token, "GET", AUTH, headers=[(b"authorization", b"token " + EXPIRING.encode())])
    assert answer.status == 200
    answer = await call(token, "GET", AUTH, headers=[(b"authorization", b"token " + EXPIRED.encode())])
    assert answer.headers["www-authenticate"] == 'Token error="invalid_token"'


async def test_the_identity_headers_may_have_other_names(validator: Validator) -> None:
    names = rename(["X-Consumer-Name=X-User-Id", "X-Consumer-Metadata=X-User-Data"], "authorization")
    renamed = ForwardAuth(validator, identity_headers=names)
    answer = await call(renamed, "GET", AUTH, headers=BEARER)
    assert answer.headers["x-user-id"] == "my-consumer"
    assert json.loads(unquote(answer.headers["x-user-data"])) == json.loads(METADATA)
    refused = await call(renamed, "GET", AUTH)
    # Empty ones in a refusal, too, for gateways that copy whatever the answer is.
    assert (refused.status, refused.headers["x-user-id"], refused.headers["x-user-data"]) == (401, "", "")
    for headers in (answer.headers, refused.headers):
        assert {name for name in headers if name in IDENTITY_HEADERS} == {
            "x-consumer-id", "x-key-id", "x-consumer-token"
        }  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_a_gateway_may_ask_by_any_method_and_its_body_is_not_read(validator: Validator, method: str) -> None:
    answer = await call(ForwardAuth(validator), method, AUTH, headers=BEARER, body=b"x" * 100_000)
    assert (answer.status, answer.body, answer.receives) == (200, b"", 0)
    assert answer.headers["cache-control"] == "no-store"
