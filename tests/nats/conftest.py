"""A broker for a test session, and one for a test that harms it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from keywright.runtime.nats_options import NatsOptions
from support.nats import NatsServer

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats") / "server") as server:
        yield server


@pytest.fixture
def options(shared_nats: NatsServer) -> NatsOptions:
    """A deployment of its own on the shared broker."""
    return NatsOptions((shared_nats.url,), prefix=f"test-{next(_numbers)}")


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server
