"""Owns the command `keywright` with all commands below it."""

from keywright.cli import key_inspect
from keywright.cli.leaks import scan, scanner_rules
from keywright.cli.operations import quotas, root_key, service, snapshot
from keywright.cli.resources import buckets, consumers, edges, keys, managers, plans, portal, usage, validation
from keywright.cli.root import new_root

_RUN, _MAINTAIN, _MANAGE, _FIND = "Run", "Maintain", "Manage keys", "Find leaked keys"

app = new_root()
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
