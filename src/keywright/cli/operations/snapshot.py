"""Owns `keywright snapshot`: the record in one file, from which an edge starts without an origin."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from keywright.cli.columns import Column, text_of, time_of
from keywright.cli.failures import CommandFailed, start_errors_as_failures
from keywright.cli.printing import Answer, note, show_one
from keywright.cli.shared_options import DatabaseUrl, DataDir, example
from keywright.cli.variables import SettingsCommand

app = typer.Typer(
    no_args_is_help=True,
    help="Export the record to a file, from which an edge starts without an origin.",
    epilog=example("keywright snapshot export --out edge.snapshot", "keywright snapshot verify edge.snapshot"),
)

_PROGRESS_SECONDS = 10.0
_COLUMNS = (
    Column("DEPLOYMENT", text_of("deployment")),
    Column("SCOPE", text_of("scope")),
    Column("REVISION", text_of("revision")),
    Column("CREATED", time_of("madeAt")),
    Column("BUCKETS", text_of("buckets")),
    Column("CONSUMERS", text_of("consumers")),
    Column("KEYS", text_of("keys")),
    Column("WITH POWERS", text_of("withPowers")),
)


@app.command(
    "export",
    cls=SettingsCommand,
    epilog=example(
        "keywright snapshot export --out edge.snapshot",
        "keywright snapshot export --out oslo.snapshot --token-id key_...    # what that edge token may see",
    ),
)
def export(
    *,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="File to write; replaced when the new one is complete."),
    ],
    token_id: Annotated[
        str | None,
        typer.Option(
            "--token-id",
            metavar="KEY_ID",
            help="Id of the edge's token: the file then holds what that token may see, and the edge continues from it.",
        ),
    ] = None,
    feed_format: Annotated[
        int,
        typer.Option(
            "--feed-format",
            metavar="FORMAT",
            min=2,
            max=3,
            help="2 for edges of version 0.1, which refuse files of 3: without keys and consumers with powers.",
        ),
    ] = 3,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the record, as it is now, to a file, while the service runs.

    It holds digests, and names and metadata of consumers, but no keys. Creating
    or reading one takes the deployment's pepper.
    """
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        settings = OriginSettings.load(data_dir=data_dir, database_url=database_url)
        count = commands.export_snapshot(settings, out.absolute(), token_id, _progress(), feed_format)
    note(f"{count:,} records written to {out}.")


@app.command("verify", cls=SettingsCommand, epilog=example("keywright snapshot verify edge.snapshot"))
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The snapshot file.", show_default=False)],
    *,
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a snapshot file is complete and authentic, and show what it holds.

    Reads pepper.key in the data directory, or KEYWRIGHT_PEPPER. Exit code 1 for
    a file that no edge would accept.
    """
    from keywright.domain.models import from_millis, to_iso
    from keywright.edge.sync import snapshot_file_loader
    from keywright.protocol.snapshot_file import SnapshotFileError
    from keywright.runtime import secret_files
    from keywright.runtime.settings import OriginSettings

    with start_errors_as_failures():
        settings = OriginSettings.load(data_dir=data_dir)
    try:
        found = snapshot_file_loader.examine(file, secret_files.load_digester(settings.pepper, settings.pepper_file))
    except (SnapshotFileError, secret_files.KeyFileError) as error:
        raise CommandFailed(str(error)) from None
    value = {
        "deployment": found.head.deployment_id,
        "scope": found.head.scope,
        "revision": found.head.cursor.revision,
        "madeAt": to_iso(from_millis(found.head.made_at)),
        "buckets": found.buckets,
        "consumers": found.consumers,
        "keys": found.keys,
        "withPowers": found.with_powers,
        "feedFormat": found.head.feed_format,
    }
    show_one(Answer(json.dumps(value), value), _COLUMNS, as_json=as_json)


def _progress() -> Callable[[int], None]:
    """A function that prints progress: on a terminal all the time, else every 10 seconds."""
    printed_at = time.monotonic()
    is_terminal = sys.stderr.isatty()

    def show(count: int) -> None:
        nonlocal printed_at
        now = time.monotonic()
        if is_terminal:
            typer.echo(f"\r{count:,} records", err=True, nl=False)
        elif now - printed_at >= _PROGRESS_SECONDS:
            printed_at = now
            note(f"{count:,} records so far")

    return show
