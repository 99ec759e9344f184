"""Owns `keywright keys`: the keys of a consumer."""

from enum import StrEnum
from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, json_of, list_of, pairs_of, plain, rate_limits_of, state_of, text_of, time_of
from keywright.cli.parsing import (
    fields_given,
    is_past,
    limits_given,
    parse_expiry,
    parse_metadata,
    parse_since,
    parse_tags,
    powers_given,
    update_body,
)
from keywright.cli.printing import note, show_done, show_list, show_one
from keywright.cli.prompts import confirm, read_secret
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="The keys of a consumer: create, show, roll and delete them.",
    epilog=example("keywright keys list acme", "keywright keys create acme --expires-on +90d"),
)

COLUMNS = (
    Column("ID", text_of("id"), is_whole=True),
    Column("KEY", text_of("key"), is_whole=True),
    Column("DESCRIPTION", text_of("description")),
    Column("STATE", state_of),
    Column("SCOPES", list_of("scopes"), in_list=False),
    Column("ALLOWED IPS", list_of("allowedIps"), in_list=False),
    Column("RATE LIMITS", rate_limits_of, in_list=False),
    Column("METADATA", json_of("metadata"), in_list=False),
    Column("TAGS", pairs_of("tags"), in_list=False),
    Column("EXPIRES", time_of("expiresOn", missing="never")),
    Column("LAST USED", time_of("lastUsedOn", missing="never")),
    Column("REGION", text_of("lastUsedRegion"), in_list=False),
    Column("FROM", text_of("lastUsedAddress"), in_list=False),
    Column("CREATED", time_of("createdOn")),
    Column("UPDATED", time_of("updatedOn"), in_list=False),
)
BUCKET_COLUMNS = (COLUMNS[0], Column("CONSUMER", text_of("consumerName"), is_whole=True), *COLUMNS[1:])
"""Where keys of several consumers are listed."""


class KeyFormat(StrEnum):
    """How the API writes a secret: not at all, its last characters, or whole."""

    NONE = "none"
    MASKED = "masked"
    VISIBLE = "visible"


_Format = Annotated[
    KeyFormat,
    typer.Option(
        "--key-format", help="How to show keys: none, masked (the last characters) or visible (the same as --show)."
    ),
]
_Metadata = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="JSON object of the key; a consumer has its own.")
]
_Expiry = Annotated[
    str | None,
    typer.Option(
        "--expires-on", metavar="TIME", help="A time (2027-01-31T12:00:00Z), a date, +12h, +7d, +2w, or 'never'."
    ),
]


def key_path(bucket: str, consumer: str, *rest: str) -> tuple[str, ...]:
    return ("key-buckets", bucket, "consumers", consumer, *rest)


def format_to_ask(*, show: bool, key_format: KeyFormat = KeyFormat.MASKED) -> dict[str, str | int]:
    return {"key-format": (KeyFormat.VISIBLE if show else key_format).value}


@app.command(
    "list",
    epilog=example(
        "keywright keys list acme", "keywright keys list acme --show --json", "keywright keys list --unused-since 90d"
    ),
)
def list_keys(
    consumer: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONSUMER]", help="Name of the consumer; with --unused-since all of them, if left out."
        ),
    ] = None,
    *,
    show: shared_options.Show = False,
    key_format: _Format = KeyFormat.MASKED,
    limit: shared_options.Limit = None,
    offset: shared_options.Offset = 0,
    everything: shared_options.All = False,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Only those with this tag; may be repeated.")
    ] = None,
    unused_since: Annotated[
        str | None,
        typer.Option(
            "--unused-since", metavar="TIME", help="Only those that are older and were not used since: 90d, a date."
        ),
    ] = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """List the keys of a consumer, newest first; or those of the bucket that nobody uses."""
    within = ListRange(limit, offset, everything)
    unused: dict[str, str | int] = {} if unused_since is None else {"unused-since": parse_since(unused_since)}
    if consumer is None:
        if unused_since is None or tag or show or key_format is not KeyFormat.MASKED:
            raise typer.BadParameter("is needed, but with --unused-since alone", param_hint="CONSUMER")
        with connect(url, account) as api:
            answer = api.get_list("key-buckets", bucket, "keys", within=within, params=unused)
        show_list(answer, BUCKET_COLUMNS, as_json=as_json, empty="All keys of the bucket were used, or are younger.")
        if not as_json:
            known = time_of("knownUntil", missing="unknown: an edge has not told yet")(answer.value)
            note(f"What edges have told is complete until: {known}.")
        return
    params = format_to_ask(show=show, key_format=key_format) | unused
    params |= {f"key-tag.{name}": value for name, value in parse_tags(tag).items()}
    with connect(url, account) as api:
        answer = api.get_list(*key_path(bucket, consumer, "keys"), within=within, params=params)
    empty = (
        "No keys match."
        if tag or unused
        else f"{consumer} has no keys yet. Create one: keywright keys create {consumer}"
    )
    show_list(answer, COLUMNS, as_json=as_json, empty=empty)


@app.command(
    "create",
    epilog=example(
        "keywright keys create acme --description 'For the test system' --expires-on +90d",
        "keywright keys create acme --key - < secret.txt",
    ),
)
def create_key(
    consumer: shared_options.ConsumerName,
    *,
    description: shared_options.Description = None,
    expires_on: _Expiry = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="-", help="Use an existing secret: '-' reads it from standard input."),
    ] = None,
    disable: shared_options.Disabled = False,
    scope: shared_options.Scopes = None,
    no_scopes: shared_options.NoScopes = False,
    allowed_ip: shared_options.AllowedIps = None,
    rate_limit: shared_options.RateLimits = None,
    metadata: _Metadata = None,
    tag: shared_options.Tags = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Create a key and print it."""
    if key not in {None, "-"}:
        raise typer.BadParameter(
            "only '-': everyone on this machine can see the arguments of a command", param_hint="--key"
        )
    body = fields_given(
        description=description,
        expiresOn=None if expires_on is None else parse_expiry(expires_on),
        key=None if key is None else read_secret("Key"),
        metadata=None if metadata is None else parse_metadata(metadata),
        tags=parse_tags(tag) or None,
    )
    body |= powers_given(scopes=scope, no_scopes=no_scopes, allowed_ips=allowed_ip, enabled=False if disable else None)
    body |= limits_given(rate_limits=rate_limit)
    with connect(url, account) as api:
        answer = api.post(*key_path(bucket, consumer, "keys"), body=body)
    show_one(answer, COLUMNS, as_json=as_json)
    if not as_json:
        note("Keep the key in a safe place. In a bucket that stores digests only, it won't be shown again.")


@app.command("get", epilog=example("keywright keys get acme key_0HfT6wtn1uyYNkLjbVNQEVzK --show"))
def get_key(
    consumer: shared_options.ConsumerName,
    key_id: shared_options.KeyId,
    *,
    show: shared_options.Show = False,
    key_format: _Format = KeyFormat.MASKED,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Show one key: its last characters or, with --show, all of it."""
    params = format_to_ask(show=show, key_format=key_format)
    with connect(url, account) as api:
        answer = api.get(*key_path(bucket, consumer, "keys", key_id), params=params)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("update", epilog=example("keywright keys update acme key_0HfT6wtn1uyYNkLjbVNQEVzK --expires-on +7d"))
def update_key(
    consumer: shared_options.ConsumerName,
    key_id: shared_options.KeyId,
    *,
    description: shared_options.NewDescription = None,
    expires_on: _Expiry = None,
    enable: shared_options.Enabled = None,
    scope: shared_options.NewScopes = None,
    no_scopes: shared_options.NoScopes = False,
    inherit_scopes: shared_options.InheritScopes = False,
    allowed_ip: shared_options.AllowedIps = None,
    any_ip: shared_options.AnyIp = False,
    rate_limit: shared_options.NewRateLimits = None,
    no_rate_limits: shared_options.NoRateLimits = False,
    metadata: _Metadata = None,
    tag: shared_options.NewTags = None,
    no_tags: shared_options.NoTags = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Change a key: its description, its end, what it may do.

    A time in the past ends it at once; --disable switches it off at once.
    """
    body = powers_given(
        scopes=scope,
        no_scopes=no_scopes,
        inherit_scopes=inherit_scopes,
        allowed_ips=allowed_ip,
        any_ip=any_ip,
        enabled=enable,
    )
    body |= limits_given(rate_limits=rate_limit, no_rate_limits=no_rate_limits)
    if not (body or expires_on) or any((description is not None, metadata, tag, no_tags)):
        body |= update_body(description, tag, no_tags=no_tags, metadata=metadata)
    if expires_on is not None:
        body["expiresOn"] = parse_expiry(expires_on)
    with connect(url, account) as api:
        answer = api.patch(*key_path(bucket, consumer, "keys", key_id), body=body)
    show_one(answer, COLUMNS, as_json=as_json)
    if not as_json and is_past(body.get("expiresOn")):
        note("That time has passed: the key is refused from now on.")


@app.command("delete", epilog=example("keywright keys delete acme key_0HfT6wtn1uyYNkLjbVNQEVzK"))
def delete_key(
    consumer: shared_options.ConsumerName,
    key_id: shared_options.KeyId,
    *,
    yes: shared_options.Yes = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Delete a key; it stops working at once."""
    confirm(f"Delete key {plain(key_id)} of {plain(consumer)}?", is_sure=yes)
    with connect(url, account) as api:
        answer = api.delete(*key_path(bucket, consumer, "keys", key_id))
    show_done(answer, f"Deleted key {key_id} of {consumer}.", as_json=as_json)


@app.command("roll", epilog=example("keywright keys roll acme", "keywright keys roll acme --expires-on +7d"))
def roll_key(
    consumer: shared_options.ConsumerName,
    *,
    expires_on: _Expiry = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Create a new key and expire the others, now or at --expires-on.

    A key that expires earlier anyway keeps its time.
    """
    expiry = None if expires_on is None else parse_expiry(expires_on)
    if expires_on is not None and expiry is None:
        raise typer.BadParameter("the other keys must expire at some time", param_hint="--expires-on")
    with connect(url, account) as api:
        answer = api.post(
            *key_path(bucket, consumer, "roll-key"),
            body={} if expiry is None else {"expiresOn": expiry},
            headers={"prefer": "return=representation"},
        )
    show_one(answer, COLUMNS, as_json=as_json)
    if not as_json:
        when = "have expired" if expiry is None else f"expire by {time_of('expiry')({'expiry': expiry})}"
        note(f"The other keys of {plain(consumer)} {when}.")
