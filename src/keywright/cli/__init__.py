"""The command line. Its entry point is `main`."""

from keywright.cli.app import main

__all__ = ["main"]
