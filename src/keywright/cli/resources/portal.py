"""Owns `keywright portal`: the branding of a bucket's developer portal."""

import base64
import mimetypes
from pathlib import Path
from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, Row, plain, text_of
from keywright.cli.failures import CommandFailed
from keywright.cli.parsing import fields_given, require_change
from keywright.cli.printing import note, show_one
from keywright.cli.shared_options import DEFAULT_URL, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="Branding of a bucket's developer portal, where users manage their own keys.",
    epilog=example("keywright portal update my-bucket --name 'Example API' --color '#0f5c6e'"),
)


def _links(row: Row) -> str:
    return ", ".join(plain(f"{link['text']}={link['url']}") for link in row.get("links", []))


COLUMNS = (
    Column("NAME", text_of("name")),
    Column("COLOR", text_of("color")),
    Column("SUPPORT", text_of("supportEmail"), is_whole=True),
    Column("API", text_of("apiUrl"), is_whole=True),
    Column("LINKS", _links, is_whole=True),
    Column("LOGO", text_of("logoUrl"), is_whole=True),
)


@app.command("get", epilog=example("keywright portal get my-bucket"))
def get_portal(
    bucket: shared_options.BucketName,
    *,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Show the branding of a portal."""
    with connect(url, account) as api:
        answer = api.get("key-buckets", bucket, "portal")
    show_one(answer, COLUMNS, as_json=as_json)
    if not (as_json or any(answer.value.values())):
        note(f"Nothing is set: the portal is named after its bucket, {plain(bucket)}, and has the service's own looks.")


@app.command("update", epilog=example("keywright portal update my-bucket --logo logo.png"))
def update_portal(
    bucket: shared_options.BucketName,
    *,
    name: Annotated[str | None, typer.Option("--name", help="Name of the portal; '' removes it.")] = None,
    color: Annotated[str | None, typer.Option("--color", metavar="#RRGGBB", help="Color of buttons and links.")] = None,
    support: Annotated[str | None, typer.Option("--support-email", help="E-mail address where users get help.")] = None,
    api_url: Annotated[str | None, typer.Option("--api-url", help="Address of the API that the keys are for.")] = None,
    link: Annotated[
        list[str] | None,
        typer.Option("--link", metavar="TEXT=URL", help="Link in the footer; may be repeated; replaces all links."),
    ] = None,
    no_links: Annotated[bool, typer.Option("--no-links", help="Remove all links.")] = False,
    logo: Annotated[Path | None, typer.Option("--logo", help="PNG, JPEG or WebP file of at most 64 KiB.")] = None,
    no_logo: Annotated[bool, typer.Option("--no-logo", help="Remove the logo.")] = False,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Change the branding of a portal."""
    texts = {"name": name, "color": color, "supportEmail": support, "apiUrl": api_url}
    body = fields_given(**texts, links=_parse_links(link) if link or no_links else None)
    require_change({**body, **({"logo": True} if logo or no_logo else {})})
    # null removes a field.
    body = {field: None if value == "" else value for field, value in body.items()}
    if logo or no_logo:
        body["logo"] = _data_url(logo) if logo else None
    with connect(url, account) as api:
        answer = api.patch("key-buckets", bucket, "portal", body=body)
    show_one(answer, COLUMNS, as_json=as_json)


def _parse_links(pairs: list[str] | None) -> list[dict[str, str]]:
    links = []
    for pair in pairs or []:
        text, equals, url = pair.partition("=")
        if not (text and equals and url):
            raise typer.BadParameter("a link is given as TEXT=URL", param_hint="--link")
        links.append({"text": text, "url": url})
    return links


def _data_url(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    try:
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError as error:
        raise CommandFailed(f"can't read {path}: {(error.strerror or str(error)).lower()}") from None
