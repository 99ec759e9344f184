"""Owns the model of the reference page: what templates/public/reference.html is handed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keywright.origin.web.reference.fields import Field
from keywright.origin.web.reference.json_tokens import Token
from keywright.origin.web.reference.prose import Block


@dataclass(frozen=True, slots=True)
class Reference:
    title: str
    version: str
    description: tuple[Block, ...]
    tags: tuple[Tag, ...]
    problem: OperationResponse | None
    """The refusal as any operation may answer it: its fields and an example."""
    headers: tuple[Field, ...]
    """Those that every answer carries: they are told once."""
    problem_statuses: tuple[tuple[str, str], ...]
    server: str
    """The absolute address that the document names, without a slash at the end; empty if it names none."""


@dataclass(frozen=True, slots=True)
class Tag:
    anchor: str
    name: str
    description: tuple[Block, ...]
    operations: tuple[Operation, ...]


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
    responses: tuple[OperationResponse, ...]
    problems: tuple[OperationResponse, ...]


@dataclass(frozen=True, slots=True)
class OperationResponse:
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
