"""Owns finding who listens on a port, to name it to whoever could not. Linux alone tells; elsewhere nobody is found."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp: proc_pid_net(5)."""
WORDS = 3
"""Of a command line: interpreter, its option, script."""


@dataclass(frozen=True)
class Holder:
    """A process that listens, or the one that it is a worker of."""

    id: int
    name: str
    is_orphan: bool
    """It is one of our workers, and the process that started it has ended."""


def find_holder(port: int) -> Holder | None:
    """Who listens on this TCP port, as far as this user may see. Of a service of ours it is the main process."""
    sockets = _listening_sockets(port)
    if not sockets:
        return None
    ids = [id for path in Path("/proc").glob("[0-9]*") if _has_socket(path, sockets) and (id := int(path.name))]
    if not ids:
        return None
    parents = [_parent_of(id) for id in ids]
    # The main process of ours listens, too, and lends the socket to its workers; but not that of gRPC.
    main = next((id for id in parents if id in ids), None)
    if main is None:
        main = next((id for id in parents if id > 1 and _name_of(id) == "keywright"), None)
    id = min(ids) if main is None else main
    name = _name_of(id)
    return Holder(id, name, is_orphan=main is None and name == "keywright")


def _listening_sockets(port: int) -> set[str]:
    """As the links in /proc/*/fd name them."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _has_socket(process: Path, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(link.readlink()) in sockets:
                    return True
    return False


def _name_of(id: int) -> str:
    """The name of its program, without arguments, which may hold a secret; ours is a script that Python runs."""
    try:
        words = Path(f"/proc/{id}/cmdline").read_bytes().split(b"\0")[:WORDS]
        if any(word.rpartition(b"/")[2] == b"keywright" for word in words):
            return "keywright"
        return Path(f"/proc/{id}/comm").read_text().strip()
    except OSError:
        return ""


def _parent_of(id: int) -> int:
    try:
        # After the name, which may hold spaces and brackets of its own.
        return int(Path(f"/proc/{id}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
