"""Owns `keywright quotas`: what an operator does with the ledger of quotas on the machine of the database."""

import json
from typing import Annotated

import typer

from keywright.cli.failures import start_errors_as_failures
from keywright.cli.printing import Answer, show_done
from keywright.cli.prompts import confirm
from keywright.cli.shared_options import DatabaseUrl, DataDir, example

app = typer.Typer(
    no_args_is_help=True,
    help="Quotas: have them lent again after the record was restored.",
    epilog=example("keywright quotas reopen"),
)


_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Reopen without confirmation.")]


@app.command("reopen", epilog=example("keywright quotas reopen --data-dir /var/lib/keywright"))
def reopen(*, is_sure: _Yes = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Lend what runs again, after the record went back to an earlier state.

    It was restored, or failed over, and does not know what edges were lent
    meanwhile: until the periods end that had begun, no edge is lent more. This
    ends that at once, and what was spent in what was lost is not counted.
    """
    question = "Lend again, whatever was spent in what the record has lost?"
    confirm(question, is_sure=is_sure, refused="nothing was changed", purpose="to lend again")
    from keywright.runtime.settings import OriginSettings
    from keywright.serve import commands  # Loads both planes.

    with start_errors_as_failures():
        names = commands.reopen_quotas(OriginSettings.load(data_dir=data_dir, database_url=database_url))
    told = f"Quotas are lent again in {', '.join(names)}." if names else "Quotas are lent in every bucket already."
    show_done(Answer(json.dumps({"buckets": names}), {"buckets": names}), told, as_json=False)
