"""Owns what is read from the user while a command runs: a secret from standard input, and consent to a deletion."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from keywright.cli.failures import CommandFailed


def read_secret(prompt: str) -> str:
    """One secret from standard input, without its line end; on a terminal, from a prompt that doesn't show it."""
    if sys.stdin.isatty():
        with _interruptible():
            return str(typer.prompt(prompt, hide_input=True, err=True))
    # What is no UTF-8 is no key either; it must not become a traceback that quotes it.
    text = sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if not text:
        raise CommandFailed("standard input is empty")
    return text


def confirm(question: str, *, is_sure: bool, refused: str = "nothing was deleted", purpose: str = "to delete") -> None:
    """Ask for confirmation, unless `--yes` gave it (`is_sure`). Raises CommandFailed without it.

    `refused` is said after a No, and `purpose` is what `--yes` would be passed for.
    """
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandFailed(f"there is no terminal to confirm on; pass --yes {purpose}")
    with _interruptible():
        is_wanted = typer.confirm(question, err=True)
    if not is_wanted:
        raise CommandFailed(refused)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Typer makes one Abort of Ctrl-C and of the end of input. Ctrl-C ends a command with 130, as shells expect."""
    try:
        yield
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
