"""Owns the commands that run the service and look after its deployment: serve, edge, migrate, rotate-master-key.

What a default is stands in the help only: the settings decide it, and None tells them that nothing was given.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keywright.cli.failures import start_errors_as_failures
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DatabaseUrl, DataDir, example
from keywright.cli.variables import SettingsCommand
from keywright.runtime import server
from keywright.runtime.settings import variables

if TYPE_CHECKING:
    from keywright.runtime.settings import OriginSettings

_Host = Annotated[
    str | None,
    typer.Option("--host", metavar="HOST", help="Address to listen on; 127.0.0.1 by default.", envvar="KEYWRIGHT_HOST"),
]
_Port = Annotated[
    int | None,
    typer.Option(
        "--port", metavar="PORT", min=1, max=65535, help="Port to listen on; 8080 by default.", envvar="KEYWRIGHT_PORT"
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Worker processes; 1 by default.", envvar="KEYWRIGHT_WORKERS"),
]
_GrpcPort = Annotated[
    int | None,
    typer.Option(
        "--grpc-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="Port of Envoy's ext_authz over gRPC; off by default. Needs the extra `grpc`.",
        envvar="KEYWRIGHT_GRPC_PORT",
    ),
]
_Nats = Annotated[
    str | None,
    typer.Option(
        "--nats",
        metavar="URL",
        help="NATS JetStream that carries changes to edges, as nats://host:4222.",
        envvar="KEYWRIGHT_NATS_URL",
    ),
]
_Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="REGION",
        help="Region shown in the list of edges, such as eu-north.",
        envvar="KEYWRIGHT_REGION",
    ),
]


def serve(
    *,
    host: _Host = None,
    port: _Port = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    workers: _Workers = None,
    grpc_port: _GrpcPort = None,
    region: _Region = None,
    nats: _Nats = None,
    new_deployment: Annotated[
        bool,
        typer.Option(
            "--new-deployment",
            help="Begin anew where the data directory knows another deployment than the database holds.",
        ),
    ] = False,
) -> None:
    """Run the service: the Developer API, the portals and the validation of keys.

    The first start creates the data directory, an account, a project with three
    buckets, and a management key, which is printed once. A database that is
    empty, or another deployment's, where there was a first start already is
    refused.
    """
    server.defer_gc()
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        variables.refuse_unknown(os.environ)
        commands.serve(
            _load(
                host=host,
                port=port,
                data_dir=data_dir,
                database_url=database_url,
                workers=workers,
                region=region,
                nats=nats,
                grpc_port=grpc_port,
            ),
            is_new_deployment=new_deployment,
        )


def edge(
    *,
    origin: Annotated[
        str | None,
        typer.Option("--origin", metavar="URL", help="Address of the origin to follow.", envvar="KEYWRIGHT_ORIGIN_URL"),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--snapshot",
            metavar="FILE",
            help="File of `keywright snapshot export` to start from; used if newer than the replica.",
            envvar="KEYWRIGHT_SNAPSHOT_FILE",
        ),
    ] = None,
    nats: _Nats = None,
    host: _Host = None,
    port: _Port = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Directory of the replica and the pepper; ./keywright-edge by default.",
            envvar="KEYWRIGHT_DATA_DIR",
        ),
    ] = None,
    workers: _Workers = None,
    grpc_port: _GrpcPort = None,
    haproxy: Annotated[
        Path | None,
        typer.Option(
            "--haproxy",
            metavar="SOCKET",
            help="Admin socket of a HAProxy whose maps are kept up to date, so that it decides by itself.",
            envvar="KEYWRIGHT_HAPROXY_SOCKET",
        ),
    ] = None,
    region: _Region = None,
) -> None:
    """Validate keys on this machine, from a replica that follows an origin.

    It goes on answering while the origin is unreachable, also after a restart.
    It needs the origin's pepper, and in KEYWRIGHT_EDGE_TOKEN a management key
    with feed: true. With --nats it follows the NATS broker that the origin
    publishes to, instead of the origin, and needs no such key. With a snapshot
    file it can start without either, and without them answers from that file.
    """
    server.defer_gc()
    with start_errors_as_failures():
        from keywright.edge import start
        from keywright.runtime.settings import EdgeSettings

        variables.refuse_unknown(os.environ)
        start.run(
            EdgeSettings.load(
                origin=origin,
                nats=nats,
                snapshot=snapshot,
                host=host,
                port=port,
                data_dir=data_dir,
                workers=workers,
                region=region,
                grpc_port=grpc_port,
                haproxy=haproxy,
            )
        )


def migrate(*, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Migrate the database to this version. (`serve` does so as well, when it starts.)"""
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        commands.migrate(_load(data_dir=data_dir, database_url=database_url))


def rotate_master_key(
    *,
    discard_old: Annotated[
        bool, typer.Option("--discard-old", help="Drop the older master keys once nothing is sealed with them.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Discard without confirmation.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Create a new master key and seal every bucket's data key with it, while the service runs.

    The API keys stay as they are.
    """
    if discard_old:
        question = "Discard the older master keys? Backups made before now can't show their keys any more."
        confirm(question, is_sure=yes, refused="nothing was changed", purpose="to discard the older master keys")
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        commands.rotate_master_key(_load(data_dir=data_dir, database_url=database_url), discard_old=discard_old)


def add_to(app: typer.Typer, *, run_panel: str, maintain_panel: str) -> None:
    """Add these commands to the root, each under the panel of the help that it belongs to."""
    app.command(
        "serve",
        cls=SettingsCommand,
        rich_help_panel=run_panel,
        epilog=example("keywright serve", "keywright serve --port 9000 --data-dir /var/lib/keywright"),
    )(serve)
    app.command(
        "edge",
        cls=SettingsCommand,
        rich_help_panel=run_panel,
        epilog=example(
            "export KEYWRIGHT_EDGE_TOKEN=...    # a management key with feed: true",
            "keywright edge --origin https://keys.internal --data-dir /var/lib/keywright-edge",
            "keywright edge --snapshot edge.snapshot    # no origin at all",
        ),
    )(edge)
    app.command(
        "migrate",
        cls=SettingsCommand,
        rich_help_panel=maintain_panel,
        epilog=example("keywright migrate --data-dir /var/lib/keywright"),
    )(migrate)
    app.command(
        "rotate-master-key",
        cls=SettingsCommand,
        rich_help_panel=maintain_panel,
        epilog=example("keywright rotate-master-key --data-dir /var/lib/keywright"),
    )(rotate_master_key)


def _load(**given: Any) -> "OriginSettings":
    from keywright.runtime.settings import OriginSettings

    return OriginSettings.load(**given)
