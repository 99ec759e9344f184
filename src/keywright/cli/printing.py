"""Owns what a command prints: tables, single records, the API's JSON, notes and failures.

What was asked for goes to standard output; notes and failures go to standard error, so that a pipe gets data only. On
a terminal a list is a Rich table; into a pipe it is plain aligned text, with nothing cut off.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from keywright.cli.columns import Column, Row, plain, plain_json

NOTHING = "-"
_NARROWEST = 16
_GAP = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: the body as it came, and its value ({} where there was no body)."""

    body: str
    value: dict[str, Any]


def show_list(answer: Answer, columns: Sequence[Column], *, as_json: bool, empty: str) -> None:
    """Show a page of a list. `empty` tells what to do next when there is nothing in it."""
    if as_json:
        show_json(answer)
        return
    rows: list[Row] = answer.value["data"]
    show_rows(rows, columns)
    offset, total = answer.value.get("offset", 0), answer.value.get("total", len(rows))
    if rows and offset + len(rows) < total:
        end = offset + len(rows)
        note(f"{offset + 1} to {end} of {total}. --offset {end} lists the next, --all lists all.")
    elif not rows:
        note(f"No more: there are {total}." if total else empty)


def show_one(answer: Answer, columns: Sequence[Column], *, as_json: bool) -> None:
    """Show one thing, a line for each of its fields that has a value."""
    if as_json:
        show_json(answer)
    else:
        _show_record(answer.value, columns)


def show_done(answer: Answer, what: str, *, as_json: bool) -> None:
    """Say what was done where the API answers nothing, such as a delete."""
    if as_json:
        show_json(answer)
    else:
        typer.echo(plain(what))


def show_json(answer: Answer) -> None:
    """The API's own document: byte for byte into a pipe, indented on a terminal. No document, no output."""
    if not answer.body:
        return
    if sys.stdout.isatty():
        typer.echo(plain_json(json.dumps(answer.value, indent=2, ensure_ascii=False)))
    else:
        typer.echo(answer.body)


def show_rows(rows: Sequence[Row], columns: Sequence[Column], *, title: str | None = None) -> None:
    """Show rows as a table, or one record after the other where a table would be wider than the terminal."""
    if not rows:
        return
    if title is not None:
        typer.echo(f"\n{title}")
    shown = [column for column in columns if column.in_list]
    cells = [[column.text(row) or NOTHING for column in shown] for row in rows]
    widths = [max(len(shown[i].title), *(len(line[i]) for line in cells)) for i in range(len(shown))]
    if not sys.stdout.isatty():
        _show_plain([[column.title for column in shown], *cells], widths)
        return
    least = [width if column.is_whole else min(width, _NARROWEST) for width, column in zip(widths, shown, strict=True)]
    if sum(least) + _GAP * len(least) > _terminal_width():
        for number, row in enumerate(rows):
            typer.echo("\n" if number else "", nl=False)
            _show_record(row, shown)
    else:
        _show_table(shown, cells)


def note(text: str) -> None:
    """Say something beside the answer, on standard error."""
    typer.echo(text, err=True)


def warn(text: str) -> None:
    """Say something that the user should change, though the command goes on."""
    typer.echo(f"keywright: warning: {text}", err=True)


def fail(message: str) -> None:
    """Tell a failure. Only the first line carries the program's name."""
    typer.echo(f"keywright: {message}", err=True)


def _show_record(row: Row, columns: Iterable[Column]) -> None:
    lines = [(column.title.lower(), column.text(row)) for column in columns]
    width = max(len(title) for title, _ in lines)
    for title, value in lines:
        if value:
            # Left to the terminal to wrap: a line break inside a secret would be copied along with it.
            typer.echo(f"{typer.style(title.ljust(width), bold=True)}  {value}")


def _show_plain(lines: Iterable[Sequence[str]], widths: Sequence[int]) -> None:
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo((" " * _GAP).join(padded).rstrip())


def _show_table(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console  # Rich costs a tenth of a second: only for those who see it.
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column.title, no_wrap=column.is_whole, overflow="fold")
    for line in cells:
        # Text, not str: a name in square brackets is a name and not markup.
        table.add_row(*(Text(cell) for cell in line))
    Console(width=_terminal_width()).print(table)


def _terminal_width() -> int:
    return typer.get_terminal_size().columns
