"""Owns `keywright key inspect`: what the text of one secret tells, without asking a server."""

import json
import re
from dataclasses import dataclass
from typing import Annotated

import typer

from keywright.cli.columns import Column, plain, text_of
from keywright.cli.printing import Answer, show_one
from keywright.cli.prompts import read_secret
from keywright.cli.shared_options import example
from keywright.domain import keyformat

app = typer.Typer(
    no_args_is_help=True,
    help="Inspect the text of one key, offline.",
    epilog=example("keywright key inspect - < key.txt"),
)

_BEGINNING = re.compile(r"[a-z](?:_?[a-z0-9]){1,23}_[0-9A-Fa-f]{4}")
_NOT_IN_A_KEY = re.compile(r"[^\x21-\x7e]")

_COLUMNS = (
    Column("FORMAT", text_of("format")),
    Column("PREFIX", text_of("prefix")),
    Column("CHECKSUM", text_of("checksum")),
    Column("MASKED", text_of("masked")),
    Column("NOTE", text_of("note")),
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the text of a secret tells. `format` is generated, custom or malformed; `checksum` is right or wrong."""

    format: str
    prefix: str | None
    checksum: str | None
    masked: str
    note: str | None
    is_possible: bool

    def to_json(self) -> dict[str, object]:
        return {
            "format": self.format,
            "prefix": self.prefix,
            "checksum": self.checksum,
            "masked": self.masked,
            "isPossible": self.is_possible,
            "note": self.note,
        }


@app.command(
    "inspect",
    epilog=example("keywright key inspect - < key.txt", "keywright key inspect -    # asks for it, without echo"),
)
def inspect_key(
    text: Annotated[
        str,
        typer.Argument(
            metavar="SECRET",
            help="The key; better '-', which reads it from standard input: arguments are kept in the shell's history.",
            show_default=False,
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the format and prefix of a key, and whether its checksum is right.

    Nothing is sent anywhere: this finds a typing error, not a revoked key.
    Exit code: 0 for what could be a key, 1 for what can't.
    """
    found = inspect(read_secret("Key") if text == "-" else text)
    value = found.to_json()
    show_one(Answer(json.dumps(value), value), _COLUMNS, as_json=as_json)
    raise typer.Exit(0 if found.is_possible else 1)


def inspect(text: str) -> Inspection:
    is_possible = keyformat.is_possible(text)
    masked = keyformat.mask(
        plain(keyformat.hint_of(keyformat.Secret(text))) if len(text) >= keyformat.MIN_LENGTH else ""
    )
    parsed = keyformat.parse(text)
    if parsed is not None:
        checksum = "right" if parsed.is_checksum_right else "wrong"
        note = None if parsed.is_checksum_right else "Not a key: a character is wrong. Copy it again."
        return Inspection("generated", parsed.prefix, checksum, masked, note, is_possible)
    if not is_possible:
        return Inspection("malformed", None, None, masked, _flaw(text), is_possible)
    note = "Begins like a generated key but isn't one; was it cut short?" if _BEGINNING.match(text) else None
    return Inspection("custom", None, None, masked, note, is_possible)


def _flaw(text: str) -> str:
    wrong = _NOT_IN_A_KEY.search(text)
    if wrong is not None:
        what = "a space" if wrong[0] == " " else "not a printable ASCII character"
        return f"Not a key: character {wrong.start() + 1} is {what}."
    return f"Not a key: it has {len(text)} characters, and keys have {keyformat.MIN_LENGTH} to {keyformat.MAX_LENGTH}."
