"""Owns what a JSON object that a caller sends may hold: no member that its shape does not know, and none in vain.

A member that is passed over with 200 looks like success. So one that nobody knows is refused with the nearest name that
is known, and one that can't be changed is refused unless it says what is there already. What is read may be sent back:
the members that only we set are passed over, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from keywright.domain.problems import BadRequest
from keywright.origin.openapi.fields import ABSENT, Shape
from keywright.origin.pipeline.respond import UNKNOWN_MEMBER

CLOSED = "x-closed"
"""Marks, until the document is made, a schema that has no further members where the deployment refuses unknown ones."""
UNKNOWN = "unknown_member"
"""The kind of these errors, beside those that Pydantic finds."""
REPEATED = "Can't be changed; may be sent back as it was read."

_READ_ONLY = {"description": "Set by the service; may be sent back, and changes nothing."}

_TIMES = frozenset({"createdOn", "updatedOn", "lastUsedOn", "lastUsedRegion", "lastUsedAddress"})

RepeatedMember = Annotated[Any, Field(description=REPEATED)]
"""A member that an update may only repeat: see `check_repeated`."""


class Body(Shape):
    """A JSON object that a caller sends. `read_only` are members that it may hold, and that only we set."""

    read_only: ClassVar[tuple[str, ...]] = ("id", "createdOn", "updatedOn")

    @classmethod
    def member_names(cls) -> list[str]:
        """The members that say something, as they are written."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        written = handler.resolve_ref_schema(schema)
        properties = written.setdefault("properties", {})
        for member in properties.values():
            member.pop("title", None)
            if "default" in member and member["default"] is ABSENT and {"type": "null"} not in member.get("anyOf", ()):
                del member["default"]
        properties.update({name: dict(_READ_ONLY) for name in cls.read_only})
        written[CLOSED] = True
        return schema


def unknown_members(annotation: Any, value: Any, place: tuple[str | int, ...] = ("body",)) -> Iterator[dict[str, Any]]:
    """What a body holds that its shape does not know, nested objects included, as Pydantic would tell of it."""
    kind, inner = _content_of(annotation)
    if kind is list and isinstance(value, list):
        for index, one in enumerate(value):
            yield from unknown_members(inner, one, (*place, index))
    elif kind is Body and isinstance(value, Mapping):
        fields = {field.alias or name: field.annotation for name, field in inner.model_fields.items()}
        for name, one in value.items():
            if name in fields:
                yield from unknown_members(fields[name], one, (*place, name))
            elif name not in inner.read_only:
                yield {"loc": (*place, name), "type": UNKNOWN, "ctx": {"error": _advice(name, list(fields))}}


def check_repeated(body: Body, **found: bool) -> None:
    """Raises BadRequest for members that can't be changed; `found` says of each whether it repeats what is there."""
    errors = [
        {"field": f"body.{type(body).model_fields[name].alias or name}", "message": "can't be changed; leave it out"}
        for name, is_repeated in found.items()
        if name in body.model_fields_set and not is_repeated
    ]
    if errors:
        raise BadRequest("The request would change what can't be changed.", errors=errors)


def repeats(sent: Any, shown: Mapping[str, Any]) -> bool:
    """Whether an object is what was read, or a part of it. What it says of its making and its use is ours, and may
    have moved."""
    return isinstance(sent, Mapping) and all(
        name in _TIMES or (name in shown and value == shown[name]) for name, value in sent.items()
    )


def repeats_all(sent: Any, shown: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a list holds all of these, each known by its id, in any order."""
    found = {one["id"]: one for one in shown}
    if not isinstance(sent, list) or len(sent) != len(found):
        return False
    given = {one["id"]: one for one in sent if isinstance(one, Mapping) and isinstance(one.get("id"), str)}
    return given.keys() == found.keys() and all(repeats(one, found[id]) for id, one in given.items())


@cache
def _content_of(annotation: Any) -> tuple[Any, Any]:
    """What to look into: (Body, its class), (list, the annotation of its items), or (None, None)."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _content_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        found = (_content_of(one) for one in get_args(annotation))
        return next((one for one in found if one[0] is not None), (None, None))
    if origin is list:
        return list, get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Body):
        return Body, annotation
    return None, None


def _advice(name: str, known: list[str]) -> str:
    plain = {one.lower(): one for one in known}
    near = get_close_matches(name[:100].lower().replace("_", "").replace("-", ""), plain, n=1)
    if near:
        return f"{UNKNOWN_MEMBER}; did you mean {plain[near[0]]}?"
    return f"{UNKNOWN_MEMBER}; there is {', '.join(known)}"
