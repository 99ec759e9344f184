"""Owns the start of what runs the service, `serve` and `edge`: with no other command loaded.

Plain options, as service managers give them, are read here: Typer has Pydantic convert them, which an edge needs for
nothing else, and which is a seventh of what it loads. Whatever else the command line holds, a mistake or `--help`, is
Typer's, and so is what is said of it.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.models import OptionInfo

from keywright.cli.failures import CommandFailed
from keywright.cli.operations import service
from keywright.cli.printing import fail

_COMMANDS: dict[str, Callable[..., None]] = {"serve": service.serve, "edge": service.edge}
_WHOLE = re.compile(r"[0-9]{1,9}")
_INTERRUPTED = 130


def main(arguments: Sequence[str]) -> None:
    """`arguments` begin with the command. Ends the process where it fails."""
    given = read_options(_COMMANDS[arguments[0]], arguments[1:])
    if given is None:
        from keywright.cli.app import app

        app(list(arguments), prog_name="keywright")
        return
    try:
        _COMMANDS[arguments[0]](**given)
    except CommandFailed as failure:
        fail(str(failure))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def read_options(command: Callable[..., None], arguments: Sequence[str]) -> dict[str, Any] | None:
    """What a command is called with; None where anything is not as plain as `--port 8080`, `--port=8080` or a flag."""
    options = _options_of(command)
    given: dict[str, Any] = {}
    left = list(arguments)
    while left:
        name, is_joined, value = left.pop(0).partition("=")
        option = options.get(name)
        if option is None:
            return None
        parameter, kind, info = option
        if kind is bool:
            if is_joined:
                return None
            given[parameter] = True
            continue
        if not is_joined:
            value = left.pop(0) if left else ""
            if value.startswith("-"):
                return None
        if not value:
            return None
        if kind is int:
            if not _WHOLE.fullmatch(value) or not _is_within(int(value), info):
                return None
            given[parameter] = int(value)
        else:
            given[parameter] = kind(value)
    return given


def _is_within(value: int, info: OptionInfo) -> bool:
    return (info.min is None or value >= info.min) and (info.max is None or value <= info.max)


def _options_of(command: Callable[..., None]) -> dict[str, tuple[str, type, OptionInfo]]:
    """By the name on the command line: parameter, type, and what Typer is told of it."""
    found: dict[str, tuple[str, type, OptionInfo]] = {}
    for parameter, hint in get_type_hints(command, include_extras=True).items():
        infos = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, OptionInfo)]
        kinds: set[Any] = {str, int, bool, Path} & {hint.__origin__, *get_args(hint.__origin__)} if infos else set()
        # What is of another kind is not read here, so that Typer is asked.
        if len(kinds) == 1:
            option = parameter, kinds.pop(), infos[0]
            # The first of them stands where without an annotation the default would.
            names = [infos[0].default, *(infos[0].param_decls or ())]
            found |= dict.fromkeys([name for name in names if isinstance(name, str)], option)
    return found
