"""Owns how a command fails: CommandFailed, and the start errors of the service that become one."""

from collections.abc import Iterator
from contextlib import contextmanager


class CommandFailed(Exception):
    """The command can't be done. The message is for the user, may have several lines, and never holds a secret."""


@contextmanager
def start_errors_as_failures() -> Iterator[None]:
    """Raise CommandFailed for what keeps the service from starting: a wrong setting, a port in use."""
    from keywright.runtime.server import StartError
    from keywright.runtime.settings import SettingsError

    try:
        yield
    except (SettingsError, StartError) as error:
        raise CommandFailed(str(error)) from None
