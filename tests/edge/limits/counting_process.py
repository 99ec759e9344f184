"""A process that takes one limit, for tests that stop or kill it. Its arguments, in this order:

the directory, the consumer's number, the limit, how many to take; and at which step of the last one to send itself
which signal: 0 for none. It prints how many it was let, and on a line before that `ready`, to go on when it is told.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from keywright.edge.limits import rows, shard
from keywright.edge.limits.table import Asked, LimitTable, consumer_limit_id
from keywright.edge.limits.table_file import TableFile

STEPS = ("looked", "journal", "holds", "half", "written")
NOW = 1000.0


_sent: list[int] = []


def send(number: int) -> None:
    """To this process, once."""
    if not _sent:
        _sent.append(number)
        os.kill(os.getpid(), number)


class Stopping:
    """Stands for a file's words: before one that is a step is written, or after it, the signal comes."""

    def __init__(self, step: str, sent: int) -> None:
        self.step, self.sent = step, sent
        self.word = rows.WORD

    def __getattr__(self, name: str) -> Any:
        return getattr(self.word, name)

    def pack_into(self, buffer: Any, offset: int, value: int) -> None:
        step = {(rows.JOURNAL, True): "journal", (rows.LAST, True): "written"}.get((offset, bool(value)))
        if step == self.step:
            send(self.sent)
        self.word.pack_into(buffer, offset, value)
        if offset == rows.JOURNAL and value and self.step == "holds":
            send(self.sent)


def stop_at(step: str, sent: int) -> None:
    """Have the signal at this step of the next change."""
    import keywright.edge.limits.table_file as file_module

    if step == "looked":
        look = shard.Shard._look

        def looking(self: Any, *arguments: Any) -> Any:
            found = look(self, *arguments)
            send(sent)
            return found

        shard.Shard._look = looking  # type: ignore[method-assign]
    elif step == "half":
        write = TableFile.write

        def writing(self: TableFile, change: int, images: Any) -> None:
            class Halved(list[Any]):
                count = 0

                def __iter__(self) -> Any:
                    Halved.count += 1
                    for number, image in enumerate(super().__iter__()):
                        if Halved.count == 2 and number == 1:
                            send(sent)
                        yield image

            write(self, change, Halved(images))

        TableFile.write = writing  # type: ignore[method-assign]
    else:
        file_module.WORD = Stopping(step, sent)  # type: ignore[misc,assignment]


def main() -> None:
    directory, consumer, limit, count, step, sent = sys.argv[1:]
    table = LimitTable(Path(directory), lambda: NOW)
    asked = [Asked(consumer_limit_id(int(consumer), name), int(limit), 60, True) for name in ("a", "b")]
    taken = sum(table.take(asked)[0] for _ in range(int(count) - (int(sent) > 0)))
    print("ready", flush=True)
    sys.stdin.readline()
    if int(sent):
        stop_at(step, signal.Signals(int(sent)))
        taken += table.take(asked)[0]
    print(taken, flush=True)


if __name__ == "__main__":
    main()
