"""Owns how the command line meets the variables of the settings: who reads them, what is said of unknown ones."""

from __future__ import annotations

import os
from typing import Any

from typer.core import TyperCommand

from keywright.cli.printing import warn
from keywright.runtime.settings import SettingsError, variables


class SettingsCommand(TyperCommand):
    """A command that hands its options to the settings.

    Its --help shows the options' variables, but the settings read them: they know old names, and what is Kubernetes'.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            vars(parameter)["resolve_envvar_value"] = _nothing


def _nothing(_: object) -> None:
    return None


def warn_of_unknown_variables() -> None:
    """Say which variables do nothing, to who runs a command that isn't stopped by them."""
    try:
        lines = variables.examine(os.environ).lines
    except SettingsError as error:
        lines = [str(error)]
    for line in lines:
        warn(line)
