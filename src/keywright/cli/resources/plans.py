"""Owns `keywright plans`: what many consumers of a bucket may do, under one name."""

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, list_of, plain, quotas_of, rate_limits_of, text_of, time_of
from keywright.cli.parsing import fields_given, limits_given, powers_given, require_change
from keywright.cli.printing import show_done, show_list, show_one
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DEFAULT_URL, ListRange, connect, example

app = typer.Typer(
    no_args_is_help=True,
    help="Scopes and limits under one name, for many consumers.",
    epilog=example(
        "keywright plans create gold --scope 'orders:*' --rate-limit per-minute=600/60",
        "keywright consumers update acme --plan gold",
    ),
)

COLUMNS = (
    Column("NAME", text_of("name"), is_whole=True),
    Column("ID", text_of("id"), is_whole=True, in_list=False),
    Column("DESCRIPTION", text_of("description")),
    Column("SCOPES", list_of("scopes")),
    Column("RATE LIMITS", rate_limits_of),
    Column("QUOTAS", quotas_of),
    Column("CONSUMERS", text_of("consumers")),
    Column("CREATED", time_of("createdOn"), in_list=False),
    Column("UPDATED", time_of("updatedOn"), in_list=False),
)


@app.command("list", epilog=example("keywright plans list"))
def list_plans(
    *,
    limit: shared_options.Limit = None,
    offset: shared_options.Offset = 0,
    everything: shared_options.All = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """List the plans of a bucket, newest first, with how many consumers have each."""
    with connect(url, account) as api:
        answer = api.get_list("key-buckets", bucket, "plans", within=ListRange(limit, offset, everything))
    empty = "No plans yet. Create one: keywright plans create gold --rate-limit per-minute=600/60"
    show_list(answer, COLUMNS, as_json=as_json, empty=empty)


@app.command("create", epilog=example("keywright plans create gold --scope 'orders:*' --rate-limit per-minute=600/60"))
def create_plan(
    name: shared_options.PlanName,
    *,
    description: shared_options.Description = None,
    scope: shared_options.Scopes = None,
    no_scopes: shared_options.NoScopes = False,
    rate_limit: shared_options.RateLimits = None,
    quota: shared_options.Quotas = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Create a plan, to be given to consumers with --plan."""
    body = fields_given(name=name, description=description)
    body |= powers_given(scopes=scope, no_scopes=no_scopes) | limits_given(rate_limits=rate_limit, quotas=quota)
    with connect(url, account) as api:
        answer = api.post("key-buckets", bucket, "plans", body=body)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("get", epilog=example("keywright plans get gold"))
def get_plan(
    name: shared_options.PlanName,
    *,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Show one plan."""
    with connect(url, account) as api:
        answer = api.get("key-buckets", bucket, "plans", name)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("update", epilog=example("keywright plans update gold --rate-limit per-minute=1200/60"))
def update_plan(
    name: shared_options.PlanName,
    *,
    description: shared_options.NewDescription = None,
    scope: shared_options.NewScopes = None,
    no_scopes: shared_options.NoScopes = False,
    inherit_scopes: shared_options.InheritScopes = False,
    rate_limit: shared_options.NewRateLimits = None,
    no_rate_limits: shared_options.NoRateLimits = False,
    quota: shared_options.Quotas = None,
    no_quotas: shared_options.NoQuotas = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Change a plan; it holds for all consumers that have it at once."""
    body = powers_given(scopes=scope, no_scopes=no_scopes, inherit_scopes=inherit_scopes)
    body |= limits_given(rate_limits=rate_limit, no_rate_limits=no_rate_limits, quotas=quota, no_quotas=no_quotas)
    if description is not None:
        body["description"] = description or None
    require_change(body)
    with connect(url, account) as api:
        answer = api.patch("key-buckets", bucket, "plans", name, body=body)
    show_one(answer, COLUMNS, as_json=as_json)


@app.command("delete", epilog=example("keywright plans delete gold"))
def delete_plan(
    name: shared_options.PlanName,
    *,
    yes: shared_options.Yes = False,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """Delete a plan that no consumer has."""
    confirm(f"Delete plan {plain(name)}?", is_sure=yes)
    with connect(url, account) as api:
        answer = api.delete("key-buckets", bucket, "plans", name)
    show_done(answer, f"Deleted plan {name}.", as_json=as_json)
