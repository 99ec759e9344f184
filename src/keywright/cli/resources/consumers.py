"""Owns `keywright consumers`."""

from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import (
    Column,
    json_of,
    list_of,
    pairs_of,
    plain,
    quotas_of,
    rate_limits_of,
    state_of,
    text_of,
    time_of,
)
from keywright.cli.parsing import fields_given, limits_given, parse_metadata, parse_tags, powers_given, update_body
from keywright.cli.printing import Answer, show_done, show_list, show_one, show_rows
from keywright.cli.prompts import confirm
from keywright.cli.resources import keys, managers
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="The identities that keys authenticate as.",
    epilog=example("keywright consumers list", "keywright consumers create acme --with-key"),
)

COLUMNS = (
    Column("NAME", text_of("name"), is_whole=True),
    Column("ID", text_of("id"), is_whole=True, in_list=False),
    Column("DESCRIPTION", text_of("description")),
    Column("METADATA", json_of("metadata"), in_list=False),
    Column("TAGS", pairs_of("tags")),
    Column("STATE", state_of),
    Column("PLAN", text_of("plan")),
    Column("SCOPES", list_of("scopes"), in_list=False),
    Column("ALLOWED IPS", list_of("allowedIps"), in_list=False),
    Column("RATE LIMITS", rate_limits_of, in_list=False),
    Column("QUOTAS", quotas_of, in_list=False),
    Column("CREATED", time_of("createdOn")),
    Column("UPDATED", time_of("updatedOn"), in_list=False),
)

_Metadata = Annotated[
    str | None,
    typer.Option("--metadata", metavar="JSON", help="JSON object that a validated request carries as user.data."),
]


@app.command("list", epilog=example("keywright consumers list", "keywright consumers list --tag plan=gold --all"))
def list_consumers(
    *,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="NAME=VALUE", help="Only those with this tag; may be repeated.")
    ] = None,
    manager_email: Annotated[
        str | None, typer.Option("--manager-email", metavar="EMAIL", help="Only those that this user manages.")
    ] = None,
    limit: shared_options.Limit = None,
    offset: shared_options.Offset = 0,
    everything: shared_options.All = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """List the consumers of a bucket, newest first."""
    params: dict[str, str | int] = {f"tag.{name}": value for name, value in parse_tags(tag).items()}
    params |= fields_given(**{"manager-email": manager_email})
    with connect(url, account) as api:
        answer = api.get_list(
            "key-buckets", bucket, "consumers", within=ListRange(limit, offset, everything), params=params
        )
    none_yet = "No consumers yet. Create one: keywright consumers create my-consumer --with-key"
    show_list(answer, COLUMNS, as_json=as_json, empty="No consumers match." if params else none_yet)


@app.command(
    "create",
    epilog=example(
        "keywright consumers create acme --with-key",
        """keywright consumers create acme --metadata '{"plan": "gold"}'""",
    ),
)
def create_consumer(
    name: shared_options.ConsumerName,
    *,
    with_key: Annotated[bool, typer.Option("--with-key", help="Create a first key as well, and print it.")] = False,
    description: shared_options.Description = None,
    metadata: _Metadata = None,
    tag: shared_options.Tags = None,
    manager: Annotated[
        list[str] | None,
        typer.Option("--manager", metavar="EMAIL", help="User to invite to manage its keys; may be repeated."),
    ] = None,
    disable: shared_options.Disabled = False,
    scope: shared_options.Scopes = None,
    no_scopes: shared_options.NoScopes = False,
    allowed_ip: shared_options.AllowedIps = None,
    plan: shared_options.Plan = None,
    rate_limit: shared_options.RateLimits = None,
    no_rate_limits: shared_options.NoRateLimits = False,
    quota: shared_options.Quotas = None,
    no_quotas: shared_options.NoQuotas = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Create a consumer.

    Its name is the user.sub of every request with one of its keys.
    """
    body = fields_given(
        name=name,
        description=description,
        metadata=None if metadata is None else parse_metadata(metadata),
        tags=parse_tags(tag) or None,
        managers=manager or None,
    )
    body |= powers_given(scopes=scope, no_scopes=no_scopes, allowed_ips=allowed_ip, enabled=False if disable else None)
    body |= limits_given(
        plan=plan, rate_limits=rate_limit, no_rate_limits=no_rate_limits, quotas=quota, no_quotas=no_quotas
    )
    params: dict[str, str | int] = {"with-api-key": "true"} if with_key else {}
    with connect(url, account) as api:
        answer = api.post("key-buckets", bucket, "consumers", body=body, params=params)
    _show_consumer(answer, as_json=as_json)


@app.command("get", epilog=example("keywright consumers get acme"))
def get_consumer(
    name: shared_options.ConsumerName,
    *,
    show: shared_options.Show = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Show one consumer with its keys and its managers."""
    included = {"include-api-keys": "true", "include-managers": "true", "include-manager-invites": "true"}
    with connect(url, account) as api:
        answer = api.get("key-buckets", bucket, "consumers", name, params={**included, **keys.format_to_ask(show=show)})
    _show_consumer(answer, as_json=as_json)


@app.command("update", epilog=example("""keywright consumers update acme --metadata '{"plan": "silver"}'"""))
def update_consumer(
    name: shared_options.ConsumerName,
    *,
    description: shared_options.NewDescription = None,
    metadata: _Metadata = None,
    tag: shared_options.NewTags = None,
    no_tags: shared_options.NoTags = False,
    enable: shared_options.Enabled = None,
    scope: shared_options.NewScopes = None,
    no_scopes: shared_options.NoScopes = False,
    inherit_scopes: shared_options.InheritScopes = False,
    allowed_ip: shared_options.AllowedIps = None,
    any_ip: shared_options.AnyIp = False,
    plan: shared_options.Plan = None,
    no_plan: shared_options.NoPlan = False,
    rate_limit: shared_options.NewRateLimits = None,
    no_rate_limits: shared_options.NoRateLimits = False,
    inherit_rate_limits: shared_options.InheritRateLimits = False,
    quota: shared_options.Quotas = None,
    no_quotas: shared_options.NoQuotas = False,
    inherit_quotas: shared_options.InheritQuotas = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Change a consumer: description, metadata, tags, what its keys may do.

    New metadata replaces the old, from the next request on; --disable switches
    it off with all its keys.
    """
    body = powers_given(
        scopes=scope,
        no_scopes=no_scopes,
        inherit_scopes=inherit_scopes,
        allowed_ips=allowed_ip,
        any_ip=any_ip,
        enabled=enable,
    )
    body |= limits_given(
        plan=plan,
        no_plan=no_plan,
        rate_limits=rate_limit,
        no_rate_limits=no_rate_limits,
        inherit_rate_limits=inherit_rate_limits,
        quotas=quota,
        no_quotas=no_quotas,
        inherit_quotas=inherit_quotas,
    )
    if not body or any((description is not None, metadata, tag, no_tags)):
        body |= update_body(description, tag, no_tags=no_tags, metadata=metadata)
    with connect(url, account) as api:
        answer = api.patch("key-buckets", bucket, "consumers", name, body=body)
    _show_consumer(answer, as_json=as_json)


@app.command("delete", epilog=example("keywright consumers delete acme", "keywright consumers delete acme --yes"))
def delete_consumer(
    name: shared_options.ConsumerName,
    *,
    yes: shared_options.Yes = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Delete a consumer; all its keys stop working at once."""
    confirm(f"Delete consumer {plain(name)} with all its keys?", is_sure=yes)
    with connect(url, account) as api:
        answer = api.delete("key-buckets", bucket, "consumers", name)
    show_done(answer, f"Deleted consumer {name}.", as_json=as_json)


app.command("roll", epilog=example("keywright consumers roll acme", "keywright consumers roll acme --expires-on +7d"))(
    keys.roll_key
)


def _show_consumer(answer: Answer, *, as_json: bool) -> None:
    show_one(answer, COLUMNS, as_json=as_json)
    if not as_json:
        show_rows(answer.value.get("apiKeys", []), keys.COLUMNS, title="Keys")
        everyone = [*answer.value.get("managers", []), *answer.value.get("managerInvites", [])]
        show_rows(everyone, managers.COLUMNS, title="Managers")
