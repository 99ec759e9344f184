"""Owns the reading of the OpenAPI document into the model of the reference page: tags, operations, responses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from keywright.domain.problems import BY_STATUS
from keywright.origin.web.reference import curl
from keywright.origin.web.reference.fields import Field, FieldReader
from keywright.origin.web.reference.json_tokens import tokens_of
from keywright.origin.web.reference.model import Operation, OperationResponse, Reference, Tag
from keywright.origin.web.reference.prose import blocks_of
from keywright.origin.web.reference.schemas import Schemas

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")


def read(document: Mapping[str, Any], *, base_url: str, anchors: Iterable[str] = ()) -> Reference:
    """Reads a document. `base_url` begins the curl examples; `anchors` are the ids that the page has given away."""
    return _DocumentReader(document, base_url, anchors).reference()


class _DocumentReader:
    def __init__(self, document: Mapping[str, Any], base_url: str, anchors: Iterable[str]) -> None:
        self._document = document
        self._schemas = Schemas(document)
        self._fields = FieldReader(self._schemas)
        self._base_url = base_url
        self._anchors = set(anchors)

    def reference(self) -> Reference:
        info = self._document.get("info", {})
        groups: dict[str, list[tuple[str, str, Mapping[str, Any], list[Any]]]] = {}
        about = {tag["name"]: str(tag.get("description") or "") for tag in self._document.get("tags", [])}
        for name in about:
            groups[name] = []
        for path, node in self._document.get("paths", {}).items():
            item = self._schemas.resolve(node)
            for method in METHODS:
                operation = item.get(method)
                if isinstance(operation, Mapping):
                    # An operation of several tags stands under its first.
                    tag = (operation.get("tags") or ["Operations"])[0]
                    groups.setdefault(tag, []).append((method, path, operation, item.get("parameters", [])))
        tags = tuple(
            Tag(
                self._anchor(f"tag-{name}"),
                name,
                blocks_of(about.get(name, "")),
                tuple(self._operation(*one) for one in operations),
            )
            for name, operations in groups.items()
            if operations
        )
        problem, headers = _common_problem(tags), _common_headers(tags)
        return Reference(
            str(info.get("title", "API")),
            str(info.get("version", "")),
            blocks_of(str(info.get("description") or "")),
            tuple(_without_common(tag, problem, headers) for tag in tags),
            problem,
            headers,
            tuple(sorted({(one.status, one.phrase) for tag in tags for op in tag.operations for one in op.problems})),
            _server(self._document.get("servers")),
        )

    def _anchor(self, words: str) -> str:
        slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "operation"
        anchor, number = slug, 2
        while anchor in self._anchors:
            anchor, number = f"{slug}-{number}", number + 1
        self._anchors.add(anchor)
        return anchor

    def _operation(self, method: str, path: str, node: Mapping[str, Any], shared: list[Any]) -> Operation:
        parameters = {(one.get("in"), one.get("name")): one for one in (self._schemas.resolve(p) for p in shared)} | {
            (one.get("in"), one.get("name")): one for one in map(self._schemas.resolve, node.get("parameters", []))
        }
        body = self._schemas.resolve(node.get("requestBody"))
        media_type, media = _first_media(body)
        responses = [self._response(str(status), one) for status, one in node.get("responses", {}).items()]
        responses.sort(key=lambda one: one.status)
        summary = str(node.get("summary") or f"{method.upper()} {path}")
        return Operation(
            anchor=self._anchor(summary),
            method=method.upper(),
            path=path,
            summary=summary,
            description=blocks_of(str(node.get("description") or "")),
            is_deprecated=node.get("deprecated") is True,
            parameters=self._groups(list(parameters.values()), path),
            access=self._access(node),
            body=self._body(body, media) if media_type else None,
            body_media_type=media_type,
            curl=self._curl(method, path, node, list(parameters.values()), media_type, media),
            responses=tuple(one for one in responses if not one.is_problem),
            problems=tuple(one for one in responses if one.is_problem),
        )

    def _groups(self, parameters: list[Mapping[str, Any]], path: str) -> tuple[tuple[str, tuple[Field, ...]], ...]:
        groups = []
        for place in ("path", "query", "header", "cookie"):
            found = [one for one in parameters if one.get("in") == place]
            # As they stand in the path; elsewhere those that must be sent first, then as the document has them.
            found.sort(key=lambda one: (one.get("required") is not True, path.find(f"{{{one.get('name')}}}")))
            if found:
                groups.append((f"{place.capitalize()} parameters", tuple(self._named(one) for one in found)))
        return tuple(groups)

    def _named(self, node: Mapping[str, Any], name: str = "") -> Field:
        """A parameter or a header."""
        schema = node["schema"] if "schema" in node else _first_media(node)[1].get("schema", {})
        found = self._fields.field_of(
            name or str(node.get("name", "")), schema, is_required=node.get("required") is True
        )
        return replace(
            found,
            description=blocks_of(str(node["description"])) if node.get("description") else found.description,
            is_deprecated=found.is_deprecated or node.get("deprecated") is True,
        )

    def _body(self, body: Mapping[str, Any], media: Mapping[str, Any]) -> Field:
        found = self._fields.field_of("body", media.get("schema", {}), is_required=body.get("required") is True)
        return replace(found, description=blocks_of(str(body.get("description") or "")) or found.description)

    def _response(self, status: str, response: Any) -> OperationResponse:
        node = self._schemas.resolve(response)
        media_type, media = _first_media(node)
        phrase = _phrase(status)
        # "Successful Response" is what the framework says when it was told nothing.
        description = str(node.get("description") or "").removeprefix("Successful Response").removeprefix(f"{phrase}. ")
        schema = media.get("schema")
        shown = self._fields.field_of("", schema) if schema is not None else None
        headers = node.get("headers")
        return OperationResponse(
            status=status,
            phrase=phrase,
            description=blocks_of(description),
            media_type=media_type,
            type=shown.type if shown else "",
            fields=shown.fields if shown else (),
            headers=tuple(
                self._named(self._schemas.resolve(one), name)
                for name, one in (headers.items() if isinstance(headers, Mapping) else ())
            ),
            example=tokens_of(self._example_in(media)) if self._example_in(media) is not None else (),
            schema=schema,
        )

    def _parameter_example(self, parameter: Mapping[str, Any]) -> Any:
        """Its example, or that of its schema; a parameter without one stands for itself."""
        found = self._example_in(parameter)
        examples = self._schemas.resolve(parameter.get("schema")).get("examples")
        if found is None and isinstance(examples, list) and examples:
            return examples[0]
        return found if found is not None else str(parameter.get("name"))

    def _example_in(self, node: Mapping[str, Any]) -> Any:
        """The example of a media type or a parameter: `example`, or the first of its `examples`; None without one.

        Our document has one for every body (openapi/examples.py makes them), so that none is made here.
        """
        if "example" in node:
            return node["example"]
        examples = node.get("examples")
        if isinstance(examples, Mapping) and examples:
            return self._schemas.resolve(next(iter(examples.values()))).get("value")
        return None

    def _curl(
        self,
        method: str,
        path: str,
        node: Mapping[str, Any],
        parameters: list[Mapping[str, Any]],
        media_type: str,
        media: Mapping[str, Any],
    ) -> str:
        return curl.command(
            method,
            self._base_url + path,
            parameters=[(one, self._parameter_example(one)) for one in parameters],
            credentials=list(self._credentials(node)),
            media_type=media_type,
            body=self._example_in(media) or {},
        )

    def _requirements(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Each a set of security schemes that will do together."""
        found = node.get("security", self._document.get("security"))
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    def _scheme(self, name: str) -> Mapping[str, Any]:
        return self._schemas.resolve(self._document.get("components", {}).get("securitySchemes", {}).get(name))

    def _credentials(self, node: Mapping[str, Any]) -> Iterable[curl.Credential]:
        """What the first of the requirements takes; the document's own scheme is `$API_KEY`, others are named."""
        own = next((name for one in self._requirements({}) for name in one), "")
        for name in next(iter(self._requirements(node)), {}):
            yield curl.Credential(self._scheme(name), "API_KEY" if name == own else curl.variable_of(name))

    def _access(self, node: Mapping[str, Any]) -> str:
        """How to authenticate, where it is not as everywhere else."""
        if "security" not in node:
            return ""
        ways = [
            " with ".join(_inside(str(self._scheme(name).get("description") or name)) for name in one) or "none"
            for one in self._requirements(node)
        ]
        return "; or ".join(ways) or "none"


def _common_problem(tags: tuple[Tag, ...]) -> OperationResponse | None:
    """The problem whose shape most operations share: it is told once."""
    found = [one for tag in tags for op in tag.operations for one in op.problems if one.fields]
    return max(found, key=lambda one: sum(one.schema == other.schema for other in found), default=None)


def _common_headers(tags: tuple[Tag, ...]) -> tuple[Field, ...]:
    found = [one.headers for tag in tags for op in tag.operations for one in (*op.responses, *op.problems)]
    return tuple(header for header in found[0] if all(header in other for other in found)) if found else ()


def _without_common(tag: Tag, problem: OperationResponse | None, headers: tuple[Field, ...]) -> Tag:
    def short(one: OperationResponse) -> OperationResponse:
        own = replace(one, headers=tuple(header for header in one.headers if header not in headers))
        is_common = one.is_problem and problem is not None and one.schema == problem.schema
        return replace(own, fields=(), example=()) if is_common else own

    return replace(
        tag,
        operations=tuple(
            replace(
                op,
                responses=tuple(short(one) for one in op.responses),
                problems=tuple(short(one) for one in op.problems),
            )
            for op in tag.operations
        ),
    )


def _first_media(node: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    content = node.get("content")
    if not isinstance(content, Mapping) or not content:
        return "", {}
    media_type, media = next(iter(content.items()))
    return str(media_type), media if isinstance(media, Mapping) else {}


def _server(servers: Any) -> str:
    first = servers[0] if isinstance(servers, list) and servers else {}
    url = str(first.get("url", "")).rstrip("/")
    return url if re.fullmatch(r"https?://[\w.:/\[\]-]+", url, re.ASCII) else ""


def _phrase(status: str) -> str:
    if status.isdecimal() and int(status) in BY_STATUS:
        return BY_STATUS[int(status)].title
    try:
        return HTTPStatus(int(status)).phrase
    except ValueError:
        return "Any other status" if status == "default" else ""


def _inside(sentence: str) -> str:
    """A sentence as a part of another."""
    words = sentence.rstrip(".")
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]
