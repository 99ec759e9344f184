"""What the documentation says is there is there, and a reader finds all of it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page for folder in (".", "docs", "gateways", "examples", "deploy") for page in (ROOT / folder).glob("*.md")
) + sorted(page for folder in ("docs", "gateways", "examples", "deploy") for page in (ROOT / folder).glob("*/**/*.md"))
RECORDS = ROOT / "docs/decisions"
PACKAGE = ROOT / "src/keywright"
_LINK = re.compile(r"(?:\]\(|<img src=\")([^)#\"]+)(?:#[^)\"]*)?[)\"]")
# In backticks, or in a drawing of the tree: `origin/keys/rules.py`, src/keywright/edge/, `tests/origin/api/`.
_PATH = re.compile(
    r"(?<![\w/.-])((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|html|proto|conf|yaml|yml|toml|json|md|sh|svg))?)(?![\w*{<])"
)
_ROOMS = "cli|serve|origin|edge|policy|nats|http|runtime|protocol|domain"
_MODULE = re.compile(rf"`(keywright(?:\.(?:{_ROOMS}))(?:\.\w+)*)")
# Words of a dialect that the product has left: what to say instead is in CONTRIBUTING.md.
_DIALECT = re.compile(
    r"(?<!\{)\bdoors?\b|\bbells?\b|\brings\b|\bout of step\b|\bheard of\b|\blook after their\b|\blooks of\b"
    r"|\bbehind by at most\b|\bthe key is there\b|\blook into your mail\b",
    re.IGNORECASE,
)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links_of(page: Path) -> set[Path]:
    """The files that a page links to, whether they are there or not."""
    found = (link for link in _LINK.findall(page.read_text()) if "://" not in link)
    return {(page.parent / link).resolve() for link in found}


def paths_in(text: str) -> set[str]:
    """Paths of ours that a page names: those that begin with a folder of the project, or with a room of the package."""
    rooms = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir()} | set(_ROOMS.split("|"))
    known = {folder.name for folder in ROOT.iterdir() if folder.is_dir()} | rooms | {"core"}
    return {path for path in _PATH.findall(text) if path.split("/", 1)[0] in known}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    assert [named(link) for link in links_of(page) if not link.exists()] == []


def test_every_page_is_reached_from_the_readme_by_links() -> None:
    reached: set[Path] = set()
    ahead = {ROOT / "README.md"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        found = links_of(page)
        # A link to a folder leads to what is in it.
        found |= {inner for link in found if link.is_dir() for inner in link.glob("*.md")}
        ahead |= {link for link in found if link.suffix == ".md" and link.exists()} - reached

    assert [named(page) for page in PAGES if page not in reached] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    """Records keep the paths of their day, but for the line that says where the module is now."""
    text = page.read_text()
    if page.parent == RECORDS:
        text = "\n".join(re.findall(r"^Since record .*", text, re.MULTILINE))
    missing = [
        path for path in paths_in(text) if not any((base / path).exists() for base in (ROOT, PACKAGE, page.parent))
    ]
    assert sorted(missing) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != RECORDS], ids=named)
def test_every_module_that_a_page_names_can_be_imported(page: Path) -> None:
    for name in sorted(set(_MODULE.findall(page.read_text()))):
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent != RECORDS and page.name != "CHANGELOG.md"], ids=named
)
def test_a_page_speaks_the_words_of_the_trade(page: Path) -> None:
    assert [match[0] for match in _DIALECT.finditer(page.read_text())] == []


def test_the_page_of_formats_tells_the_numbers_of_the_code() -> None:
    from keywright.edge.limits import rows
    from keywright.edge.quotas import reservations
    from keywright.edge.quotas.borrowing import notes
    from keywright.edge.replica import files
    from keywright.origin.db.tables import SCHEMA_VERSION
    from keywright.protocol import changes, frames, leases, reports, shares, snapshot_file, usage, usage_delivery

    text = (ROOT / "docs/reference/compatibility.md").read_text()
    told = dict(re.findall(r"^\| ([^|]+?) \| (\d+) \|(?:[^|]*\|){3}$", text, re.MULTILINE))

    assert told == {
        "changes": str(changes.FORMAT_VERSION),
        "frames, over HTTP and at a broker": str(frames.FORMAT_VERSION),
        "edges' reports": str(reports.FORMAT_VERSION),
        "leases of quotas: questions and answers": str(leases.FORMAT_VERSION),
        "snapshot file": str(snapshot_file.FORMAT_VERSION),
        "replica on disk": files.FORMAT.decode(),
        "database schema": SCHEMA_VERSION,
        "shares of global limits, asked for and told": str(shares.FORMAT_VERSION),
        "batches of usage, in the spool and on their way": str(usage.FORMAT_VERSION),
        "deliveries of usage, and answers to them": str(usage_delivery.FORMAT_VERSION),
        "what an origin wishes to be told of usage": usage_delivery.WISHES_QUESTION.decode()[-1],
        "table of quotas on disk (`quotas/` of a replica)": rows.MAGIC.decode()[-1],
        "tokens of reservations": reservations.PREFIX[-2],
        "notes of what was lent (`leases/` of a replica)": str(notes.FORMAT_VERSION),
        "table of rate limits on disk (`limits/` of a replica)": rows.MAGIC.decode()[-1],
    }


def test_every_decision_record_is_at_most_50_lines_and_numbered_without_gaps() -> None:
    records = sorted(RECORDS.glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    assert [record.name for record in records if len(record.read_text().splitlines()) > 50] == []


def test_no_documented_install_downloads_what_is_not_pinned() -> None:
    """By hash: of a file of requirements, or a constraint with hashes, which uv checks; or nothing at all."""
    places = [*PAGES, ROOT / "Makefile", ROOT / ".ci/run"]
    pinned = re.compile(r"--require-hashes|-c requirements/|--no-deps --no-build-isolation|--no-deps dist/")
    found = [
        f"{named(page)}: {line.strip()}"
        for page in places
        if "decisions" not in page.parts
        for line in page.read_text().splitlines()
        if re.search(r"\bpip install\b|\buv build\b|\bnpm (?:i|install)\b|\bnpx\b|\buvx\b", line)
        and not pinned.search(line)
    ]
    assert found == []


def test_no_page_puts_a_secret_on_a_command_line() -> None:
    """`ps` shows options to everybody, and a shell keeps what was typed; a variable read from a file does neither."""
    secret = re.compile(
        r"^\s*(?:\$ )?(?:\S+=\S+ )*\S*(?:PASSWORD|PEPPER|TOKEN|BOOTSTRAP_KEY|MANAGEMENT_KEY|SECRET)=\S+ +[a-z./]"
        r"|--(?:key|token|password|database-url)[ =](?:kwak_|zpka_|kwmk_|\S*://[^/\s]*:[^/\s]*@)"
        r"|Bearer (?:kwak|zpka|kwmk)_[0-9a-f]{8}"
    )
    found = [
        f"{named(page)}: {line.strip()}"
        for page in PAGES
        for line in page.read_text().splitlines()
        if secret.search(line)
    ]
    assert found == []
