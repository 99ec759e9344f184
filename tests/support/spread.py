"""A pytest plugin that owns how tests are spread over processes: file by file, long ones first, and no test twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long(seconds): about how long a file takes that should not be begun last")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_seconds, reverse=True)


def _seconds(item: pytest.Item) -> float:
    mark = item.get_closest_marker("long")
    return mark.args[0] if mark else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    from xdist.scheduler import LoadFileScheduling

    class FileByFile(LoadFileScheduling):
        """A test that its process did not survive is not tried again; `LoadFileScheduling` does until it gives up."""

        def remove_node(self, node: Any) -> str | None:
            files = self.assigned_work.pop(node)
            pending = [(tests, test) for tests in files.values() for test, is_done in tests.items() if not is_done]
            if not pending:
                return None
            tests, crashed = pending[0]
            tests[crashed] = True
            self.workqueue.update({file: tests for file, tests in files.items() if not all(tests.values())})
            for other in self.assigned_work:
                self._reschedule(other)
            return str(crashed)

    return FileByFile(config, log) if config.getoption("dist") == "loadfile" else None
