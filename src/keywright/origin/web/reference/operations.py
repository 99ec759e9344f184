"""Owns the model of the reference page: the OpenAPI document as tags, operations and responses, ready to be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from keywright.domain.problems import BY_STATUS
from keywright.origin.web.reference.prose import Block, blocks_of
from keywright.origin.web.reference.schemas import Field, Schemas

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")

_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>-?\d[\d.eE+-]*|true|false|null)'
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a JSON text; `kind` is key, string, word, or empty for what stands between them."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Response:
    status: str
    phrase: str
    description: tuple[Block, ...]
    media_type: str
    type: str
    fields: tuple[Field, ...]
    headers: tuple[Field, ...]
    example: tuple[Token, ...]
    schema: Any

    @property
    def is_problem(self) -> bool:
        return self.status[:1] in {"4", "5"} or self.status == "default"


@dataclass(frozen=True, slots=True)
class Operation:
    anchor: str
    method: str
    path: str
    summary: str
    description: tuple[Block, ...]
    is_deprecated: bool
    parameters: tuple[tuple[str, tuple[Field, ...]], ...]
    """Titled groups: those in the path, the query and the headers."""
    access: str
    """How to authenticate, in words; empty if it is as everywhere else."""
    body: Field | None
    body_media_type: str
    curl: str
    responses: tuple[Response, ...]
    problems: tuple[Response, ...]


@dataclass(frozen=True, slots=True)
class Tag:
    anchor: str
    name: str
    description: tuple[Block, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    title: str
    version: str
    description: tuple[Block, ...]
    tags: tuple[Tag, ...]
    problem: Response | None
    """The refusal as any operation may answer it: its fields and an example."""
    headers: tuple[Field, ...]
    """Those that every answer carries: they are told once."""
    problem_statuses: tuple[tuple[str, str], ...]
    server: str
    """The absolute address that the document names, without a slash at the end; empty if it names none."""


def read(document: Mapping[str, Any], *, base_url: str, anchors: Iterable[str] = ()) -> Reference:
    """Reads a document. `base_url` begins the curl examples; `anchors` are the ids that the page has given away."""
    return _Reader(document, base_url, anchors).reference()


def tokens_of(value: Any) -> tuple[Token, ...]:
    """A value as indented JSON, cut where its colours change."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    tokens: list[Token] = []
    end = 0
    for found in _TOKEN.finditer(text):
        if found.start() > end:
            tokens.append(Token("", text[end : found.start()]))
        tokens.append(Token(found.lastgroup or "", found[0]))
        end = found.end()
    return (*tokens, Token("", text[end:])) if end < len(text) else tuple(tokens)


class _Reader:
    def __init__(self, document: Mapping[str, Any], base_url: str, anchors: Iterable[str]) -> None:
        self._document = document
        self._schemas = Schemas(document)
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
        found = self._schemas.field_of(
            name or str(node.get("name", "")), schema, is_required=node.get("required") is True
        )
        return replace(
            found,
            description=blocks_of(str(node["description"])) if node.get("description") else found.description,
            is_deprecated=found.is_deprecated or node.get("deprecated") is True,
        )

    def _body(self, body: Mapping[str, Any], media: Mapping[str, Any]) -> Field:
        found = self._schemas.field_of("body", media.get("schema", {}), is_required=body.get("required") is True)
        return replace(found, description=blocks_of(str(body.get("description") or "")) or found.description)

    def _response(self, status: str, given: Any) -> Response:
        node = self._schemas.resolve(given)
        media_type, media = _first_media(node)
        phrase = _phrase(status)
        # "Successful Response" is what the framework says when it was told nothing.
        description = str(node.get("description") or "").removeprefix("Successful Response").removeprefix(f"{phrase}. ")
        schema = media.get("schema")
        shown = self._schemas.field_of("", schema) if schema is not None else None
        headers = node.get("headers")
        return Response(
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
            example=tokens_of(self._media_example(media, is_request=False)) if media_type else (),
            schema=schema,
        )

    def _media_example(self, media: Mapping[str, Any], *, is_request: bool) -> Any:
        found = self._named_example(media)
        return found if found is not None else self._schemas.example_of(media.get("schema"), is_request=is_request)

    def _named_example(self, node: Mapping[str, Any]) -> Any:
        """The example of a media type or a parameter: `example`, or the first of its `examples`."""
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
        """A command line that a POSIX shell runs as it stands; credentials are all that it takes from outside."""
        query: list[tuple[str, str]] = []
        headers: list[str] = []
        for one in parameters:
            found = self._named_example(one)
            value = _plain(found if found is not None else self._schemas.example_of(one.get("schema"), is_request=True))
            name = str(one.get("name"))
            if one.get("in") == "path":
                path = path.replace(f"{{{name}}}", quote(value, safe=""))
            elif one.get("required") is True and one.get("in") == "query":
                query.append((name, value))
            elif one.get("required") is True and one.get("in") == "header":
                headers.append(f"{name}: {value}")
        url = self._base_url + path + (f"?{urlencode(query)}" if query else "")
        verb = {"get": "", "post": "" if media_type else "-X POST "}.get(method, f"-X {method.upper()} ")
        lines = [f"curl {'-I ' if method == 'head' else verb}{_quoted(url)}"]
        lines += self._credentials(node)
        lines += [f"-H {_quoted(header)}" for header in headers]
        if media_type:
            body = self._media_example(media, is_request=True)
            lines.append(f'-H "Content-Type: {media_type}"' if '"' not in media_type else "")
            text = json.dumps(body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
            lines.append(f"-d {_quoted(text)}")
        return " \\\n  ".join(line for line in lines if line)

    def _requirements(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Each a set of security schemes that will do together."""
        found = node.get("security", self._document.get("security"))
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    def _scheme(self, name: str) -> Mapping[str, Any]:
        return self._schemas.resolve(self._document.get("components", {}).get("securitySchemes", {}).get(name))

    def _credentials(self, node: Mapping[str, Any]) -> Iterable[str]:
        """What the first of the requirements takes; the document's own scheme is `$API_KEY`, others are named."""
        own = next((name for one in self._requirements({}) for name in one), "")
        for name in next(iter(self._requirements(node)), {}):
            scheme = self._scheme(name)
            variable = "API_KEY" if name == own else re.sub(r"(?<=[a-z0-9])(?=[A-Z])|\W+", "_", name).upper()
            if scheme.get("type") == "http" and str(scheme.get("scheme")).lower() == "bearer":
                yield f'-H "Authorization: Bearer ${variable}"'
            elif scheme.get("type") == "apiKey" and scheme.get("in") == "header":
                prefix = _quoted(f"{scheme.get('name')}: ")
                yield f'-H {prefix}"${variable}"'

    def _access(self, node: Mapping[str, Any]) -> str:
        """How to authenticate, where it is not as everywhere else."""
        if "security" not in node:
            return ""
        ways = [
            " with ".join(_inside(str(self._scheme(name).get("description") or name)) for name in one) or "none"
            for one in self._requirements(node)
        ]
        return "; or ".join(ways) or "none"


def _common_problem(tags: tuple[Tag, ...]) -> Response | None:
    """The problem whose shape most operations share: it is told once."""
    found = [one for tag in tags for op in tag.operations for one in op.problems if one.fields]
    return max(found, key=lambda one: sum(one.schema == other.schema for other in found), default=None)


def _common_headers(tags: tuple[Tag, ...]) -> tuple[Field, ...]:
    found = [one.headers for tag in tags for op in tag.operations for one in (*op.responses, *op.problems)]
    return tuple(header for header in found[0] if all(header in other for other in found)) if found else ()


def _without_common(tag: Tag, problem: Response | None, headers: tuple[Field, ...]) -> Tag:
    def short(one: Response) -> Response:
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


def _quoted(text: str) -> str:
    """A word for a POSIX shell, always in quotes: nothing in it is a variable or a pattern to the shell."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
