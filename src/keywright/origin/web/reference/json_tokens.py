"""Owns the colours of a JSON sample: a value as indented text, cut into tokens."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")(?=\s*:)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>-?\d[\d.eE+-]*|true|false|null)'
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a JSON text; `kind` is key, string, word, or empty for what stands between them."""

    kind: str
    text: str


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
