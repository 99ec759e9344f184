"""Problem documents (RFC 9457): one for each status that we answer with."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from keywright.domain.problems import BY_STATUS, BadRequest, NotFound, Problem


@pytest.mark.parametrize("status", sorted(BY_STATUS))
def test_each_status_has_its_plain_reason_phrase_and_its_type(status: int) -> None:
    document = BY_STATUS[status]().to_document()
    # RFC 9110 has renamed these; the published API has the older name of 413, and older Pythons that of 414.
    phrase = {413: "Payload Too Large", 414: "URI Too Long"}.get(status, HTTPStatus(status).phrase)
    assert document == {"type": f"https://httpproblems.com/http-status/{status}", "title": phrase, "status": status}


def test_every_problem_is_in_the_table() -> None:
    assert set(BY_STATUS.values()) == set(Problem.__subclasses__())


def test_a_document_tells_what_is_known_and_nothing_else() -> None:
    errors = [{"field": "body.name", "message": "is required"}]
    problem = BadRequest("The request is not valid.", errors=errors, headers={"Retry-After": "1"})
    assert problem.to_document(instance="/v1/accounts", request_id="abc") == {
        "type": "https://httpproblems.com/http-status/400",
        "title": "Bad Request",
        "status": 400,
        "detail": "The request is not valid.",
        "instance": "/v1/accounts",
        "requestId": "abc",
        "errors": errors,
    }
    assert str(problem) == "The request is not valid."
    assert str(NotFound()) == "Not Found"
    assert problem.headers == {"Retry-After": "1"}
