"""Owns `keywright root-key`: the way back to a root key that was lost, and away from one that leaked."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keywright.cli.columns import Column, list_of, state_of, text_of, time_of
from keywright.cli.failures import start_errors_as_failures
from keywright.cli.printing import Answer, note, show_done, show_list, show_one
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DatabaseUrl, DataDir, Description, KeyId, Yes, example

if TYPE_CHECKING:
    from keywright.domain.keyformat import Secret
    from keywright.domain.models import ManagementKey

app = typer.Typer(
    no_args_is_help=True,
    help="Root keys: create, list, enable and revoke them on the machine of the database.",
    epilog=example("keywright root-key create", "keywright root-key revoke key_..."),
)

_COLUMNS = (
    Column("ID", text_of("id"), is_whole=True),
    Column("KEY", text_of("key"), is_whole=True),
    Column("DESCRIPTION", text_of("description")),
    Column("STATE", state_of),
    Column("ALLOWED IPS", list_of("allowedIps")),
    Column("CREATED", time_of("createdOn")),
)
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create", epilog=example("keywright root-key create --data-dir /var/lib/keywright"))
def create(
    *,
    description: Description = None,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="ACCOUNT", help="Account that lists it; the first one by default."),
    ] = None,
    as_json: _Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Create a root key and print it, while the service runs or not.

    It needs the database and the deployment's pepper and master key, and no
    other key. The older root keys go on: see `root-key list` and `revoke`.
    """
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        settings = OriginSettings.load(data_dir=data_dir, database_url=database_url)
        made, secret = commands.create_root_key(settings, account, description)
    value = _shown(made, secret)
    show_one(Answer(json.dumps(value), value), _COLUMNS, as_json=as_json)
    if not as_json:
        note("Keep the key in a safe place: it won't be shown again.")


@app.command("list", epilog=example("keywright root-key list --data-dir /var/lib/keywright"))
def list_keys(*, as_json: _Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """List the root keys, newest first, by their last characters."""
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        found = commands.list_root_keys(OriginSettings.load(data_dir=data_dir, database_url=database_url))
    value = {"data": [_shown(key) for key in found]}
    empty = "There is no root key. Create one: keywright root-key create"
    show_list(Answer(json.dumps(value), value), _COLUMNS, as_json=as_json, empty=empty)


@app.command("revoke", epilog=example("keywright root-key revoke key_... --data-dir /var/lib/keywright"))
def revoke(key_id: KeyId, *, is_sure: Yes = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Revoke a root key: it is refused from the next request on.

    Here it may be the last one, which the API keeps: `root-key create` makes
    another.
    """
    confirm(f"Revoke the root key {key_id}?", is_sure=is_sure, refused="nothing was revoked", purpose="to revoke it")
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        settings = OriginSettings.load(data_dir=data_dir, database_url=database_url)
        left = commands.revoke_root_key(settings, key_id)
    show_done(Answer("", {}), f"The root key {key_id} is revoked.", as_json=False)
    if not left:
        note("That was the last one. Create another: keywright root-key create")


@app.command("enable", epilog=example("keywright root-key enable key_... --data-dir /var/lib/keywright"))
def enable(key_id: KeyId, *, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Switch a root key on again, and have it be good from everywhere.

    The way back for who switched off, or tied to an address, all that they had.
    """
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        commands.enable_root_key(OriginSettings.load(data_dir=data_dir, database_url=database_url), key_id)
    show_done(Answer("", {}), f"The root key {key_id} is good, from everywhere.", as_json=False)


def _shown(made: "ManagementKey", secret: "Secret | None" = None) -> dict[str, Any]:
    from keywright.domain import keyformat
    from keywright.domain.models import to_iso

    key = made.key
    return {
        "id": key.id,
        "key": secret.reveal() if secret else keyformat.mask(key.hint),
        "description": key.description,
        "enabled": key.enabled,
        "allowedIps": None if key.allowed_ips is None else list(key.allowed_ips),
        "createdOn": to_iso(key.created_at),
    }
