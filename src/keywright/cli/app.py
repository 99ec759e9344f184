"""Owns the command line: parses, makes one call, prints. What a command does is done in serve.py or behind the API.

This file is the tour: what runs and looks after the service. The nouns of the Developer API have a file each, key.py
looks at one secret, client.py talks to the API, output.py prints. It imports little, because the start of
`keywright serve` waits for it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from keywright import __version__
from keywright.cli import key_inspect, snapshot
from keywright.cli.printing import CommandFailed, fail, failing_clearly
from keywright.cli.resources import buckets, consumers, edges, keys, managers, portal
from keywright.cli.shared_options import DatabaseUrl, DataDir, example
from keywright.runtime import server

if TYPE_CHECKING:
    from keywright.runtime.settings import OriginSettings

_RUN, _CARE, _MANAGE = "Run it", "Look after it", "Manage keys"


class Tour(TyperGroup):
    """The one place where a failure of a command becomes its line on standard error and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandFailed as failure:
            fail(str(failure))
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Tour,
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
    epilog=example(
        "keywright serve",
        "export KEYWRIGHT_API_KEY=...    # printed by the first serve",
        "export KEYWRIGHT_BUCKET=my-bucket",
        "keywright consumers create acme --with-key",
    ),
)

# What a default is stands in the help only: settings.py decides it, and None tells that nothing was given.
_Host = Annotated[
    str | None,
    typer.Option("--host", envvar="KEYWRIGHT_HOST", metavar="HOST", help="Address to listen at; 127.0.0.1 by default."),
]
_Port = Annotated[
    int | None,
    typer.Option(
        "--port", envvar="KEYWRIGHT_PORT", metavar="PORT", min=1, max=65535, help="Port to listen at; 8080 by default."
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", envvar="KEYWRIGHT_WORKERS", metavar="N", min=1, help="Processes that answer; 1 by default."
    ),
]
_GrpcPort = Annotated[
    int | None,
    typer.Option(
        "--grpc-port",
        envvar="KEYWRIGHT_GRPC_PORT",
        metavar="PORT",
        min=0,
        max=65535,
        help="Port of Envoy's ext_authz over gRPC; off by default. Needs the extra keywright[grpc].",
    ),
]
_Nats = Annotated[
    str | None,
    typer.Option(
        "--nats",
        envvar="KEYWRIGHT_NATS_URL",
        metavar="URL",
        help="NATS JetStream that carries changes to edges, as nats://host:4222.",
    ),
]
_Region = Annotated[
    str | None,
    typer.Option(
        "--region", envvar="KEYWRIGHT_REGION", metavar="REGION", help="Where it runs, for the list of edges: eu-north."
    ),
]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"keywright {__version__}")
        raise typer.Exit


@app.callback()
def tour(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Keywright: issue API keys to the consumers of your API, and check them at any rate.

    On one machine, `keywright serve` is all it takes. When it first starts, it
    prints a management key. With it in KEYWRIGHT_API_KEY, the commands under
    "Manage keys" make buckets, consumers and keys, as any HTTP client can.

    Every command explains itself with --help.
    """


@app.command(
    "serve",
    rich_help_panel=_RUN,
    epilog=example("keywright serve", "keywright serve --port 9000 --data-dir /var/lib/keywright"),
)
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
) -> None:
    """Run the service: the Developer API and the validation of keys.

    The first start makes the data directory, an account, a project with three
    buckets, and a management key that is printed once.
    """
    server.collect_later()
    from keywright.serve import commands as planes  # Loads both planes.

    with failing_clearly():
        planes.serve(
            _load(
                host=host,
                port=port,
                data_dir=data_dir,
                database_url=database_url,
                workers=workers,
                region=region,
                nats=nats,
                grpc_port=grpc_port,
            )
        )


@app.command(
    "edge",
    rich_help_panel=_RUN,
    epilog=example(
        "export KEYWRIGHT_EDGE_TOKEN=...    # a management key with feed: true",
        "keywright edge --origin https://keys.internal --data-dir /var/lib/keywright-edge",
        "keywright edge --snapshot edge.snapshot    # no origin at all",
    ),
)
def edge(
    *,
    origin: Annotated[
        str | None,
        typer.Option("--origin", envvar="KEYWRIGHT_ORIGIN", metavar="URL", help="Address of the origin to follow."),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--snapshot",
            envvar="KEYWRIGHT_SNAPSHOT",
            metavar="FILE",
            help="File of `keywright snapshot export` to begin with; used if newer than the replica.",
        ),
    ] = None,
    nats: _Nats = None,
    host: _Host = None,
    port: _Port = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            envvar="KEYWRIGHT_DATA_DIR",
            metavar="DIR",
            help="Directory of the replica and the pepper; ./keywright-edge by default.",
        ),
    ] = None,
    workers: _Workers = None,
    grpc_port: _GrpcPort = None,
    haproxy: Annotated[
        Path | None,
        typer.Option(
            "--haproxy",
            envvar="KEYWRIGHT_HAPROXY",
            metavar="SOCKET",
            help="Admin socket of a HAProxy whose maps are kept in step, so that it decides by itself.",
        ),
    ] = None,
    region: _Region = None,
) -> None:
    """Validate keys on this machine, from a replica that follows an origin.

    It goes on answering when the origin is away, also after a restart. It needs
    the origin's pepper, and in KEYWRIGHT_EDGE_TOKEN a management key that may
    follow the feed. With --nats it follows a broker that the origin relays to,
    instead of the origin, and needs no such key. With a snapshot file it needs
    neither to begin with, and without them it answers from that file alone.
    """
    server.collect_later()
    with failing_clearly():
        from keywright.edge import start
        from keywright.runtime.settings import EdgeSettings

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


@app.command("migrate", rich_help_panel=_CARE, epilog=example("keywright migrate --data-dir /var/lib/keywright"))
def migrate(*, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database up to this version. (`serve` does so, too, when it starts.)"""
    from keywright.serve import commands as planes  # Loads both planes.

    with failing_clearly():
        planes.migrate(_load(data_dir=data_dir, database_url=database_url))


@app.command(
    "rotate-master-key",
    rich_help_panel=_CARE,
    epilog=example("keywright rotate-master-key --data-dir /var/lib/keywright"),
)
def rotate_master_key(
    *,
    discard_old: Annotated[
        bool, typer.Option("--discard-old", help="Drop the older master keys once nothing is sealed with them.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a new master key and seal every bucket's data key with it, while the service runs.

    The API keys stay as they are.
    """
    from keywright.serve import commands as planes  # Loads both planes.

    with failing_clearly():
        planes.rotate_master_key(_load(data_dir=data_dir, database_url=database_url), discard_old=discard_old)


app.add_typer(snapshot.app, name="snapshot", rich_help_panel=_CARE)
app.add_typer(buckets.app, name="buckets", rich_help_panel=_MANAGE)
app.add_typer(consumers.app, name="consumers", rich_help_panel=_MANAGE)
app.add_typer(keys.app, name="keys", rich_help_panel=_MANAGE)
app.add_typer(managers.app, name="managers", rich_help_panel=_MANAGE)
app.add_typer(portal.app, name="portal", rich_help_panel=_MANAGE)
app.add_typer(edges.app, name="edges", rich_help_panel=_CARE)
app.add_typer(key_inspect.app, name="key", rich_help_panel=_MANAGE)


def main() -> None:
    app(prog_name="keywright")


def _load(**given: Any) -> "OriginSettings":
    from keywright.runtime.settings import OriginSettings

    return OriginSettings.load(**given)
