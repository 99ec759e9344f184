"""Owns the tables: columns, how numbers are written, aims and whether they are met; on a terminal and in the page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN = "<!-- make bench ARGS=--write: begin -->"
END = "<!-- make bench ARGS=--write: end -->"
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be at least (or at most), and the figure as it was measured."""

    figure: float
    limit: float
    is_at_most: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return self.figure <= self.limit if self.is_at_most else self.figure >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.is_at_most else '>='} {number(self.limit)}{self.unit}"


@dataclass
class Table:
    """One table; the first column is text, and aim and verdict are added to the right where a row has an aim."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)

    @classmethod
    def not_measured(cls, title: str, why: str) -> Table:
        return cls(title, ("what", "figure"), rows=[("everything", NOT_MEASURED, "", "")], notes=[why])

    def add(self, what: str, *cells: str, aims: Sequence[Aim] = ()) -> None:
        """Missing cells at the end stay empty."""
        empty = [""] * (len(self.columns) - 1 - len(cells))
        texts = ", ".join(str(aim) for aim in aims)
        met = ", ".join("yes" if aim.is_met else "NO" for aim in aims)
        self.rows.append((what, *cells, *empty, texts, met))
        self.aims += aims

    def render(self) -> str:
        """Aligned on a terminal, and a table to Markdown."""
        rows = [(*self.columns, "aim", "met"), *self.rows]
        # A table without aims has no columns for them.
        count = len(rows[0]) if self.aims else len(rows[0]) - 2
        widths = [max(len(row[column]) for row in rows) for column in range(count)]
        lines = [_line(row, widths) for row in rows]
        lines.insert(
            1, "| " + " | ".join("-" * widths[0] if n == 0 else "-" * (w - 1) + ":" for n, w in _each(widths)) + " |"
        )
        parts = [f"### {self.title}", "", *lines]
        for note in self.notes:
            parts += ["", note]
        return "\n".join(parts)


def render(facts: Sequence[tuple[str, str]], tables: Sequence[Table]) -> str:
    """The whole report."""
    width = max(len(name) for name, _ in facts)
    head = "\n".join(["```text", *(f"{name:{width}}  {value}" for name, value in facts), "```"])
    aims = [aim for table in tables for aim in table.aims]
    met = (
        f"Aims met: {sum(aim.is_met for aim in aims)} of {len(aims)}."
        if aims
        else "No figure with an aim was measured."
    )
    return "\n\n".join([head, *(table.render() for table in tables), met])


def write_into(page: Path, text: str) -> None:
    """Replaces what is between the two markers of the page. Raises ValueError when it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def number(value: float) -> str:
    """Three figures that count; thousands are set off by commas."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """How far rounds lie apart: half the distance of the extremes, as a part of the median."""
    middle = statistics.median(values)
    return f"{(max(values) - min(values)) / 2 / middle:.0%}" if middle else ""


def median_ratio(values: Sequence[float], baseline: Sequence[float]) -> float:
    """The median of the ratios of the same round, so that noise which lasts longer than a round cancels out."""
    return statistics.median(a / b for a, b in zip(values, baseline, strict=True))


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(f"{row[n]:<{w}}" if n == 0 else f"{row[n]:>{w}}" for n, w in _each(widths)) + " |"


def _each(widths: Sequence[int]) -> list[tuple[int, int]]:
    return list(enumerate(widths))
