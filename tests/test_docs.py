"""What the documentation says is there is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "gateways").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_the_settings_page_names_the_variables_that_are_read_and_no_others() -> None:
    sources = [ROOT / "src/keywright/runtime/settings.py", *(ROOT / "src/keywright/cli").rglob("*.py")]
    read = {name for source in sources for name in re.findall(r'"(KEYWRIGHT_[A-Z_]+)"', source.read_text())}
    told = set(re.findall(r"KEYWRIGHT_[A-Z_]+", (ROOT / "docs/reference/settings.md").read_text()))
    assert told == read


def test_every_decision_record_is_at_most_50_lines_and_numbered_without_gaps() -> None:
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    assert [record.name for record in records if len(record.read_text().splitlines()) > 50] == []
