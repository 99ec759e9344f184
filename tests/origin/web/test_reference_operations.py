"""Any document that OpenAPI 3.1 allows is read into operations, with an example of each."""

from __future__ import annotations

from keywright.origin.web.reference.fields import Limit
from keywright.origin.web.reference.operations import read
from keywright.origin.web.reference.prose import blocks_of

NAME = {"$ref": "#/components/schemas/Name"}
SCHEMAS = {"components": {"schemas": {"Name": {"type": "string", "maxLength": 5}}}}


def test_references_are_followed_everywhere() -> None:
    document = {
        "paths": {"/a/{b}": {"$ref": "#/x/item"}},
        "x": {
            "item": {
                "parameters": [{"$ref": "#/x/parameter"}],
                "put": {
                    "requestBody": {"$ref": "#/x/body"},
                    "responses": {"200": {"$ref": "#/x/response"}, "default": {"description": "Whatever."}},
                },
            },
            "parameter": {
                "in": "path",
                "name": "b",
                "required": True,
                "schema": NAME,
                "examples": {"e": {"value": "c d"}},
            },
            "body": {"content": {"application/json": {"examples": {"e": {"$ref": "#/x/example"}}}}},
            "example": {"value": {"it": "isn't"}},
            "response": {"description": "Done.", "headers": {"X-A": {"$ref": "#/x/header"}}},
            "header": {"schema": {"type": "integer"}},
        },
        **SCHEMAS,
    }
    found = read(document, base_url="http://h")
    (operation,) = found.tags[0].operations
    assert operation.curl.startswith("curl -X PUT 'http://h/a/c%20d' \\\n")
    assert """-d '{\n    "it": "isn'"'"'t"\n  }'""" in operation.curl
    assert operation.parameters[0][1][0].limits == (Limit("at most 5 characters"),)
    assert operation.responses[0].headers[0].type == "integer"
    assert operation.problems[0].phrase == "Any other status"


def test_two_operations_of_one_name_have_two_anchors() -> None:
    document = {"paths": {"/a": {"get": {"summary": "Errors"}, "put": {"summary": "Errors"}}}}
    operations = read(document, base_url="", anchors=["errors"]).tags[0].operations
    assert [operation.anchor for operation in operations] == ["errors-2", "errors-3"]


def test_descriptions_are_cut_into_blocks() -> None:
    text = "## Title\nFirst\nline with `code`.\n\n- one\n- two\n  goes on\n\n```sh\nls  -l\n```\nLast **word**."
    blocks = blocks_of(text)
    assert [block.kind for block in blocks] == ["heading", "paragraph", "list", "sample", "paragraph"]
    assert [span.kind for span in blocks[1].lines[0]] == ["text", "code", "text"]
    assert blocks[2].lines[1][0].text == "two goes on"
    assert blocks[3].lines[0][0].text == "ls  -l"
    assert blocks_of("") == ()


def test_a_parameter_without_an_example_stands_for_itself_and_a_body_is_empty() -> None:
    operation = {
        "parameters": [
            {"in": "path", "name": "b", "schema": {"type": "string"}},
            {"in": "query", "name": "c", "required": True, "schema": {"examples": ["d e"]}},
        ],
        "requestBody": {"content": {"application/json": {"schema": NAME}}},
        "responses": {"200": {"content": {"application/json": {"schema": NAME}}}},
    }
    (found,) = read({"paths": {"/a/{b}": {"post": operation}}, **SCHEMAS}, base_url="http://h").tags[0].operations
    assert found.curl.startswith("curl 'http://h/a/b?c=d+e' \\\n")
    assert found.curl.endswith("-d '{}'")
    assert found.responses[0].example == ()
