"""Owns looking through a replica's files for damage, in a process of its own: reading a damaged page may end a process.

LMDB keeps no checksums and trusts what it reads. Records carry one each (records.py), which a look-up checks; but a
record that nobody asks for, or that can't be found because its name or the way to it is damaged, only this finds.

Run as `python -m keywright.edge.replica.integrity DIRECTORY PEPPER_CHECK`: exit code 23 for damage. It ends when its
parent does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from keywright.edge.replica.files import BROKEN
from keywright.edge.replica.replica import Replica, ReplicaBroken

STEP = 2000
PAUSE_SECONDS = 0.02
DAMAGED = 23
"""No code that Python ends with by itself: what merely keeps the audit from its work is no damage."""
_CRASHES = {-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL}


async def is_damaged(path: Path, pepper_check: str) -> bool:
    """Whether the audit of the files in this directory found damage, or died of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __spec__.name, str(path), pepper_check, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        code = await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return code == DAMAGED or code in _CRASHES


def main(path: Path, pepper_check: str) -> int:
    parent = os.getppid()
    # It takes the time that others leave.
    os.nice(10)
    try:
        replica = Replica.open(path, pepper_check)
        with replica.auditing() as is_ours:
            while is_ours and not replica.audit(STEP) and os.getppid() == parent:
                time.sleep(PAUSE_SECONDS)
    except (ReplicaBroken, *BROKEN) as error:
        print(f"the replica in {path} is damaged: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return DAMAGED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
