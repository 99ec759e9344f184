"""Owns `keywright scanner-rules`: of which prefixes a deployment has keys, and whom a scanner asks about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from keywright.cli import shared_options
from keywright.cli.leaks.formats import Format, Rule, write
from keywright.cli.leaks.options import parse_prefixes
from keywright.cli.printing import note
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example
from keywright.domain.keyformat import MANAGEMENT_PREFIX

EXAMPLES = example(
    "keywright scanner-rules --format gitleaks > .gitleaks.toml",
    "keywright scanner-rules --format kingfisher --verify --url https://keys.example.com > keywright.yml",
    "keywright scanner-rules --format github --prefix acme_live    # asks nobody",
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_VERIFYING = frozenset({Format.BETTERLEAKS, Format.KINGFISHER})


def scanner_rules(
    *,
    format: Annotated[Format, typer.Option("--format", help="The scanner that is to read it.", show_default=False)],
    prefix: Annotated[
        list[str] | None,
        typer.Option("--prefix", help="Of keys that begin so, instead of asking the API; repeatable."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Have the scanner ask at --url whether a key is live, where it can."),
    ] = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Print rules by which other scanners find this deployment's keys.

    There is one for each prefix that keys of the account's buckets have, those
    of before with them, and one for management keys.
    """
    if verify and format not in _VERIFYING:
        named = " and ".join(sorted(_VERIFYING))
        raise typer.BadParameter(f"rules of {format} ask nobody; those of {named} do", param_hint="--verify")
    if verify and prefix:
        raise typer.BadParameter("not together with --prefix, which names no bucket to ask", param_hint="--verify")
    if verify and not _is_safe(url):
        raise typer.BadParameter("keys are sent to be verified, so it must be https://", param_hint="--url")
    buckets: dict[str, list[str]] = {one: [] for one in sorted(parse_prefixes(prefix))}
    if not prefix:
        with connect(url, account) as api:
            buckets = buckets_by_prefix(api.get_list("key-buckets", within=ListRange(is_everything=True)).value["data"])
    rules = [Rule(MANAGEMENT_PREFIX, f"{url.rstrip('/')}/v1/who-am-i" if verify else None)]
    for one, names in buckets.items():
        if one == MANAGEMENT_PREFIX:
            continue
        is_clear = verify and len(names) == 1
        rules.append(Rule(one, f"{url.rstrip('/')}/v1/forward-auth/{names[0]}" if is_clear else None))
        if verify and not is_clear:
            note(f"Keys with {one}_ are of {len(names)} buckets, so their rule finds them and asks nobody.")
    typer.echo(write(format, rules), nl=False)


def buckets_by_prefix(buckets: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names of the buckets whose keys may have a prefix, by the prefix, as the API shows buckets."""
    found: dict[str, list[str]] = {}
    for bucket in buckets:
        # An origin of before knows of one prefix only.
        for prefix in (bucket["keyPrefix"], *bucket.get("formerKeyPrefixes", ())):
            found.setdefault(prefix, []).append(bucket["name"])
    return dict(sorted(found.items()))


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in _LOOPBACK
