"""Keywright: self-hosted API key management and validation. Start at ARCHITECTURE.md."""

__version__ = "0.1.0"
