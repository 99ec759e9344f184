"""A pytest plugin that tells `support.watchdog`, which started the run, what each process of it is at.

A process that runs tests has a file by its id, with the test that it is at, or nothing in it. Every process has another
one, into which it prints its stacks when it is sent SIGUSR1, even if it is not in Python or does not come back to it.

It also has pytest-timeout print where a test was that took too long: xdist gives its processes nowhere to print to.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "KEYWRIGHT_TEST_PROGRESS"
STACKS = ".stacks"
SIGNAL = signal.SIGUSR1


class Progress:
    def __init__(self, directory: Path) -> None:
        self._file = directory / str(os.getpid())
        self._stacks = self._file.with_suffix(STACKS).open("wb", buffering=0)
        faulthandler.register(SIGNAL, self._stacks)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._file.write_text(item.nodeid)
        try:
            return (yield)
        finally:
            self._file.write_text("")

    def pytest_unconfigure(self) -> None:
        faulthandler.unregister(SIGNAL)
        self._stacks.close()


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    if not hasattr(item.config, "workerinput") or settings.method != "thread":
        return None
    import pytest_timeout

    def end() -> None:
        item.config.get_terminal_writer()._file = sys.__stderr__
        pytest_timeout.timeout_timer(item, settings)

    timer = threading.Timer(settings.timeout, end)
    item.cancel_timeout = timer.cancel
    timer.start()
    return True


def pytest_configure(config: pytest.Config) -> None:
    if directory := os.environ.get(VARIABLE):
        config.pluginmanager.register(Progress(Path(directory)))
