"""Owns the little Markdown of descriptions: text in, blocks of marked words out, and nothing of it is HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass

_INLINE = re.compile(r"`([^`\n]+)`|\*\*([^*\n]+)\*\*|\[([^\]\n]+)\]\(([/#][^)\s]*)\)")
_BULLET = re.compile(r"\s*[-*] +")
_HEADING = re.compile(r"#{1,6} +")


@dataclass(frozen=True, slots=True)
class Span:
    """Some words; `kind` is text, code, strong or link."""

    kind: str
    text: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list or sample; only a list has several `lines`."""

    kind: str
    lines: tuple[tuple[Span, ...], ...]


def blocks_of(text: str) -> tuple[Block, ...]:
    """Paragraphs, `- ` lists, headings and fenced samples."""
    blocks: list[Block] = []
    # The odd parts stand between fences.
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        if number % 2:
            blocks.append(Block("sample", ((Span("text", part.strip("\n")),),)))
            continue
        for paragraph in re.split(r"\n\s*\n", part.strip()):
            if paragraph.strip():
                blocks += _blocks_of_paragraph(paragraph)
    return tuple(blocks)


def spans_of(text: str) -> tuple[Span, ...]:
    """One line's `code`, **strong** words and [links](/of-this-host); a link to elsewhere stays as it is written."""
    spans: list[Span] = []
    end = 0
    for found in _INLINE.finditer(text):
        if found.start() > end:
            spans.append(Span("text", text[end : found.start()]))
        code, strong, label, href = found.groups()
        # `//host/path` is an address on another host.
        if href is not None and href.startswith("//"):
            spans.append(Span("text", found[0]))
        elif href is not None:
            spans.append(Span("link", label, href))
        else:
            spans.append(Span("code", code) if code is not None else Span("strong", strong))
        end = found.end()
    if end < len(text):
        spans.append(Span("text", text[end:]))
    return tuple(spans)


def _blocks_of_paragraph(paragraph: str) -> list[Block]:
    blocks: list[tuple[str, list[str]]] = []
    for line in paragraph.splitlines():
        if bullet := _BULLET.match(line):
            if not blocks or blocks[-1][0] != "list":
                blocks.append(("list", []))
            blocks[-1][1].append(line[bullet.end() :].strip())
        elif heading := _HEADING.match(line):
            blocks.append(("heading", [line[heading.end() :].strip()]))
        elif blocks and blocks[-1][0] != "heading":
            blocks[-1][1][-1] += f" {line.strip()}"
        else:
            blocks.append(("paragraph", [line.strip()]))
    return [Block(kind, tuple(spans_of(line) for line in lines)) for kind, lines in blocks]
