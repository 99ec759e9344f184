"""The command line. Its entry point is `main`."""

import sys

_RUN = ("serve", "edge")
"""What runs the service: its start, and the memory of its workers, does without all other commands."""


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in _RUN:
        from keywright.cli import running

        running.main(sys.argv[1:])
    else:
        from keywright.cli.app import app

        app(prog_name="keywright")


__all__ = ["main"]
