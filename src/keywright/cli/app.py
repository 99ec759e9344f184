"""Owns the command `keywright` itself: its help, the commands below it, and what a failure of any of them becomes.

It imports little, because the start of `keywright serve` waits for it.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from keywright import __version__
from keywright.cli import key_inspect
from keywright.cli.failures import CommandFailed
from keywright.cli.leaks import scan, scanner_rules
from keywright.cli.operations import quotas, root_key, service, snapshot
from keywright.cli.printing import fail
from keywright.cli.resources import buckets, consumers, edges, keys, managers, plans, portal, usage, validation
from keywright.cli.shared_options import example
from keywright.cli.variables import warn_of_unknown_variables

_RUN, _MAINTAIN, _MANAGE, _FIND = "Run", "Maintain", "Manage keys", "Find leaked keys"


class App(TyperGroup):
    """The one place where a failure of a command becomes its message on standard error and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandFailed as failure:
            fail(str(failure))
            raise typer.Exit(1) from None


app = typer.Typer(
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


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"keywright {__version__}")
        raise typer.Exit


@app.callback()
def root(
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


service.add_to(app, run_panel=_RUN, maintain_panel=_MAINTAIN)
app.add_typer(snapshot.app, name="snapshot", rich_help_panel=_MAINTAIN)
app.add_typer(root_key.app, name="root-key", rich_help_panel=_MAINTAIN)
app.add_typer(quotas.app, name="quotas", rich_help_panel=_MAINTAIN)
app.add_typer(buckets.app, name="buckets", rich_help_panel=_MANAGE)
app.add_typer(plans.app, name="plans", rich_help_panel=_MANAGE)
app.add_typer(consumers.app, name="consumers", rich_help_panel=_MANAGE)
app.add_typer(keys.app, name="keys", rich_help_panel=_MANAGE)
app.command("usage", epilog=usage.EXAMPLES, rich_help_panel=_MANAGE)(usage.show_usage)
app.command("validate", epilog=validation.EXAMPLES, rich_help_panel=_MANAGE)(validation.validate_key)
app.add_typer(managers.app, name="managers", rich_help_panel=_MANAGE)
app.add_typer(portal.app, name="portal", rich_help_panel=_MANAGE)
app.add_typer(edges.app, name="edges", rich_help_panel=_MAINTAIN)
app.add_typer(key_inspect.app, name="key", rich_help_panel=_MANAGE)
app.command("scan", epilog=scan.EXAMPLES, rich_help_panel=_FIND)(scan.scan)
app.command("scanner-rules", epilog=scanner_rules.EXAMPLES, rich_help_panel=_FIND)(scanner_rules.scanner_rules)


def main() -> None:
    app(prog_name="keywright")
