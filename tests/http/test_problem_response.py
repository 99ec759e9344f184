"""A problem is the same document and the same headers, whoever answers with it."""

from __future__ import annotations

import json

import msgspec

from keywright.domain.problems import Conflict, Unauthorized
from keywright.http.problem_response import render


def test_a_problem_becomes_a_document_and_its_headers() -> None:
    problem = Unauthorized("The key is unknown.", headers={"WWW-Authenticate": "Bearer"})
    headers, body = render(problem, "/v1/zo\N{LATIN SMALL LETTER E WITH DIAERESIS}", "mine")
    assert json.loads(body) == {
        "type": "https://httpproblems.com/http-status/401",
        "title": "Unauthorized",
        "status": 401,
        "detail": "The key is unknown.",
        "instance": "/v1/zo\N{LATIN SMALL LETTER E WITH DIAERESIS}",
        "requestId": "mine",
    }
    assert headers == [
        ("content-type", "application/problem+json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("x-request-id", "mine"),
        ("www-authenticate", "Bearer"),
    ]


def test_the_bytes_are_the_same_with_the_encoder_of_the_edge() -> None:
    problem = Conflict('a "detail"', errors=[{"field": "body.name", "message": "is taken"}])
    assert render(problem, "/é", "1") == render(problem, "/é", "1", encode=msgspec.json.encode)
