"""Owns `keywright usage`: how often keys were validated."""

from enum import StrEnum
from typing import Annotated

import typer

from keywright.cli import shared_options
from keywright.cli.columns import Column, Row, text_of, time_of
from keywright.cli.parsing import fields_given, parse_since
from keywright.cli.printing import note, show_list
from keywright.cli.shared_options import DEFAULT_URL, connect, example


class By(StrEnum):
    """What is told apart."""

    VERDICT = "verdict"
    KEY = "key"
    CONSUMER = "consumer"
    EDGE = "edge"
    PLAN = "plan"
    SCOPE = "scope"
    ROUTE = "route"
    ADDRESS = "address"


def _verdicts(row: Row) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in (row.get("verdicts") or {}).items())


COLUMNS = (
    Column("ID", text_of("id"), is_whole=True),
    Column("NAME", text_of("name")),
    Column("TOTAL", text_of("total")),
    Column("VERDICTS", _verdicts),
)
EXAMPLES = example(
    "keywright usage",
    "keywright usage acme --by key --from 7d",
    "keywright usage --by consumer --from 2026-11-01",
    "keywright usage --bucket bckt_pCcNMjERFSoh5xIQir7o99Z6KDoLp36e",
)


def show_usage(
    consumer: Annotated[
        str | None,
        typer.Argument(metavar="[CONSUMER]", help="Name of a consumer, or the id of one that is gone; else all."),
    ] = None,
    key_id: Annotated[str | None, typer.Argument(metavar="[KEY_ID]", help="Id of one of its keys.")] = None,
    *,
    by: Annotated[By, typer.Option("--by", help="What is told apart.")] = By.VERDICT,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Since when: 7d, 12h, a date; 30 days, if left out.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until when; now, if left out.")] = None,
    limit: shared_options.Limit = None,
    as_json: shared_options.Json = False,
    bucket: shared_options.Bucket,
    url: shared_options.Url = DEFAULT_URL,
    account: shared_options.Account = None,
) -> None:
    """How often keys of a bucket, a consumer, or one key were validated, and with what verdict.

    What was deleted goes by its id: of a bucket bckt_..., of a consumer csmr_...
    """
    place = ["key-buckets", bucket]
    place += [] if consumer is None else ["consumers", consumer]
    place += [] if key_id is None else ["keys", key_id]
    params = fields_given(
        by=by.value,
        limit=limit,
        **{
            "from": None if start is None else parse_since(start),
            "to": None if end is None else parse_since(end),
        },
    )
    with connect(url, account) as api:
        answer = api.get(*place, "usage", params=params)
    show_list(answer, COLUMNS, as_json=as_json, empty="Nothing was validated in this time.")
    if not as_json:
        known = time_of("knownUntil", missing="unknown: an edge has not told yet")(answer.value)
        note(f"From {time_of('from')(answer.value)} to {time_of('to')(answer.value)}; complete until: {known}.")
        lost = len(answer.value.get("losses") or ())
        if lost:
            note(f"Counts were lost {lost} time{'s' if lost > 1 else ''} meanwhile: --json says which.")
