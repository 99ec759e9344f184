"""Owns the root of the command line: what `keywright` itself takes, and what a failure of any command becomes."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from keywright import __version__
from keywright.cli.failures import CommandFailed
from keywright.cli.printing import fail
from keywright.cli.shared_options import example
from keywright.cli.variables import warn_of_unknown_variables


class App(TyperGroup):
    """The one place where a failure of a command becomes its message on standard error and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandFailed as failure:
            fail(str(failure))
            raise typer.Exit(1) from None


def new_root() -> typer.Typer:
    """Without any commands."""
    root = typer.Typer(
        cls=App,
        no_args_is_help=True,
        add_completion=False,
        # A traceback with local variables would show secrets.
        pretty_exceptions_enable=False,
        epilog=example(
            "keywright serve",
            "export KEYWRIGHT_MANAGEMENT_KEY=...    # printed by the first serve",
            "export KEYWRIGHT_BUCKET=my-bucket",
            "keywright consumers create acme --with-key",
        ),
    )
    root.callback()(_root)
    return root


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"keywright {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Keywright: issue API keys to the consumers of your API, and validate them at any rate.

    On one machine, `keywright serve` is all it takes. When it first starts, it
    prints a management key. With that in KEYWRIGHT_MANAGEMENT_KEY, the commands
    under "Manage keys" create buckets, consumers and keys, as any HTTP client can.

    Every command explains itself with --help.
    """
    if ctx.invoked_subcommand not in ("serve", "edge"):  # Which these stop at, or say in their logs.
        warn_of_unknown_variables()
