"""Owns what is read from the user while a command runs: a secret from standard input, and consent to a deletion."""

import sys

import typer

from keywright.cli.failures import CommandFailed


def read_secret(prompt: str) -> str:
    """One secret from standard input, without its line end; on a terminal, from a prompt that doesn't show it."""
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, err=True))
    # What is no UTF-8 is no key either; it must not become a traceback that quotes it.
    text = sys.stdin.buffer.read().decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if not text:
        raise CommandFailed("standard input is empty")
    return text


def confirm(question: str, *, is_sure: bool) -> None:
    """Ask for confirmation, unless `--yes` gave it (`is_sure`). Raises CommandFailed without it."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise CommandFailed("there is no terminal to confirm on; pass --yes to delete")
    if not typer.confirm(question, err=True):
        raise CommandFailed("nothing was deleted")
