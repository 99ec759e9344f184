"""Owns `keywright buckets`."""

import json
from typing import Annotated, Any

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, Row, list_of, pairs_of, plain, text_of, time_of
from keywright.cli.parsing import fields_given, parse_self_serve, parse_tags, update_body
from keywright.cli.printing import note, show_done, show_list, show_one
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example
from keywright.domain.models import WhenStale

app = typer.Typer(
    no_args_is_help=True,
    help="Groups of consumers: one for each environment, or shared by several.",
    epilog=example("keywright buckets list"),
)

_BUCKETS = "key-buckets"


_MaxStaleness = Annotated[
    int | None,
    typer.Option(
        "--max-staleness",
        metavar="SECONDS",
        min=0,
        help="How far an edge may lag before it is stale; 0: no limit.",
    ),
]
_Stale = Annotated[
    WhenStale | None,
    typer.Option("--when-stale", help="Whether a stale edge goes on validating keys (serve), or answers 503 (refuse)."),
]


_DefaultScopes = Annotated[
    list[str] | None,
    typer.Option(
        "--default-scope",
        help="What keys of consumers without scopes are good for, '*' is all; repeatable.",
    ),
]


_Addresses = Annotated[
    bool | None,
    typer.Option(
        "--record-addresses/--no-record-addresses",
        help="Have edges tell from which networks (/24, /48) keys are used: these may be personal data.",
    ),
]


def _retrievable(row: Row) -> str:
    return {True: "yes", False: "no"}.get(row.get("isRetrievable", ""), "")


def _recorded(row: Row) -> str:
    return {True: "yes", False: "no"}.get(row.get("recordAddresses", ""), "")


def _staleness(row: Row) -> str:
    seconds = row.get("maxStalenessSeconds")
    return "" if seconds is None else f"{seconds} s"


def _owner_key(row: Row) -> str:
    return plain(row["ownerKey"]["key"]) if "ownerKey" in row else ""


def _self_serve(row: Row) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in row.get("selfServe", {}).items())


COLUMNS = (
    Column("NAME", text_of("name"), is_whole=True),
    Column("ID", text_of("id"), is_whole=True, in_list=False),
    Column("DESCRIPTION", text_of("description")),
    Column("TAGS", pairs_of("tags")),
    Column("RETRIEVABLE", _retrievable),
    Column("MAX STALENESS", _staleness, in_list=False),
    Column("WHEN STALE", text_of("whenStale"), in_list=False),
    Column("PREFIX", text_of("keyPrefix"), in_list=False),
    Column("FORMER PREFIXES", list_of("formerKeyPrefixes"), in_list=False),
    Column("DEFAULT SCOPES", list_of("defaultScopes"), in_list=False),
    Column("RECORDS ADDRESSES", _recorded, in_list=False),
    Column("SELF-SERVE", _self_serve, in_list=False),
    Column("CREATED", time_of("createdOn")),
    Column("UPDATED", time_of("updatedOn"), in_list=False),
    Column("OWNER KEY", _owner_key, is_whole=True, in_list=False),
)


@app.command("list", epilog=example("keywright buckets list"))
def list_buckets(
    *,
    limit: shared_options.Limit = None,
    offset: shared_options.Offset = 0,
    everything: shared_options.All = False,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """List the buckets of the account, newest first."""
    with connect(url, account) as api:
        answer = api.get_list(_BUCKETS, within=ListRange(limit, offset, everything))
    show_list(answer, COLUMNS, as_json=as_json, empty="No buckets yet. Create one: keywright buckets create my-bucket")


@app.command("create", epilog=example("keywright buckets create my-bucket --description 'Keys of our customers'"))
def create_bucket(
    name: shared_options.BucketName,
    *,
    description: shared_options.Description = None,
    tag: shared_options.Tags = None,
    key_prefix: Annotated[
        str | None, typer.Option("--key-prefix", help="What its keys begin with, such as acme_live.")
    ] = None,
    not_retrievable: Annotated[
        bool, typer.Option("--not-retrievable", help="Store digests only: a key is shown once, when it is created.")
    ] = False,
    max_staleness: _MaxStaleness = None,
    when_stale: _Stale = None,
    scope: _DefaultScopes = None,
    record_addresses: _Addresses = None,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Create a bucket, and print its owner key.

    The owner key may do anything in this bucket and nothing else.
    """
    body = fields_given(
        name=name,
        description=description,
        tags=parse_tags(tag) or None,
        keyPrefix=key_prefix,
        isRetrievable=False if not_retrievable else None,
        maxStalenessSeconds=max_staleness or None,
        whenStale=when_stale,
        defaultScopes=scope or None,
        recordAddresses=record_addresses,
    )
    with connect(url, account) as api:
        answer = api.post(_BUCKETS, body=body)
    show_one(answer, COLUMNS, as_json=as_json)
    if not as_json:
        note("Save the owner key now: it won't be shown again.")


@app.command("get", epilog=example("keywright buckets get my-bucket"))
def get_bucket(
    name: shared_options.BucketName,
    *,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Show one bucket."""
    with connect(url, account) as api:
        answer = api.get(_BUCKETS, name)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("update", epilog=example("keywright buckets update my-bucket --tag team=payments"))
def update_bucket(
    name: shared_options.BucketName,
    *,
    description: shared_options.NewDescription = None,
    tag: shared_options.NewTags = None,
    no_tags: shared_options.NoTags = False,
    self_serve: Annotated[
        list[str] | None,
        typer.Option(
            "--self-serve",
            metavar="NAME=VALUE",
            help="What end users may do: enabled, createConsumers, deleteConsumers, createKeys (true or false), "
            "maxConsumers, maxKeys; may be repeated.",
        ),
    ] = None,
    key_prefix: Annotated[
        str | None, typer.Option("--key-prefix", help="What new keys begin with; those that there are stay good.")
    ] = None,
    max_staleness: _MaxStaleness = None,
    when_stale: _Stale = None,
    scope: _DefaultScopes = None,
    no_scopes: Annotated[bool, typer.Option("--no-default-scopes", help="Grant nothing by default.")] = False,
    record_addresses: _Addresses = None,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Change a bucket: description, tags, prefix, stale edges, what end users may do, default scopes, addresses."""
    if scope and no_scopes:
        raise typer.BadParameter("not together with --default-scope", param_hint="--no-default-scopes")
    body: dict[str, Any] = {"selfServe": parse_self_serve(self_serve)} if self_serve else {}
    if scope or no_scopes:
        body["defaultScopes"] = scope or []
    body |= fields_given(recordAddresses=record_addresses)
    if key_prefix is not None:
        body["keyPrefix"] = key_prefix
    others = (description, tag, no_tags or None, max_staleness, when_stale)
    if not body or any(other is not None for other in others):
        body |= update_body(description, tag, no_tags=no_tags, maxStalenessSeconds=max_staleness, whenStale=when_stale)
    if max_staleness == 0:
        body["maxStalenessSeconds"] = None
    with connect(url, account) as api:
        answer = api.patch(_BUCKETS, name, body=body)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("delete", epilog=example("keywright buckets delete my-bucket"))
def delete_bucket(
    name: shared_options.BucketName,
    *,
    yes: shared_options.Yes = False,
    as_json: shared_options.Json = False,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Delete a bucket with its consumers; all their keys stop working."""
    confirm(f"Delete bucket {plain(name)} with all its consumers and keys?", is_sure=yes)
    with connect(url, account) as api:
        answer = api.delete(_BUCKETS, name)
    show_done(answer, f"Deleted bucket {name}.", as_json=as_json)
