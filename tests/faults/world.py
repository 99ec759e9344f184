"""The processes that schedules play with: a database, an origin, and edges behind links that can be spoilt.

It lives on from schedule to schedule: what one leaves behind is the ground of the next. `heal` brings everybody back,
as process managers and people would, and nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import lmdb

from faults import clock
from faults.disk import Disk
from faults.history import Held, History
from faults.schedule import EDGES, LINK_FAULTS, Engine, Fault, Step
from faults.traffic import ROOT_KEY
from keywright import secretfiles
from keywright.core.changes import Change
from keywright.core.keyformat import Digester
from keywright.core.permissions import Access, Grantee, Permissions
from keywright.edge.replica import Replica, ReplicaBroken
from keywright.origin.feed.scope import Sight
from keywright.origin.store import accounts, logs
from keywright.origin.store.database import Database
from support.postgres import Postgres, free_port
from support.process import ServeProcess, until
from support.proxy import Proxy

HEAL_SECONDS = 60.0
_FOLLOW = {"account": "none", "buckets": {"*": "validate"}, "feed": True}
_EVERYTHING = Grantee("", Permissions(), is_root=True)


class Server:
    """One of our processes, on a port that it keeps over its lives."""

    def __init__(self, command: str, data_dir: Path, variables: Mapping[str, str], *arguments: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._command = command
        self._arguments = arguments
        self._variables = dict(variables)
        self._process: ServeProcess | None = None
        self._is_paused = False
        self.is_shifted = False

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.process.poll() is None

    def start(self, offset: int = 0) -> None:
        shift = clock.variables(offset) if offset else {}
        self.is_shifted = bool(offset)
        kind = type("Process", (ServeProcess,), {"command": self._command})
        self._process = kind(self.data_dir, *self._arguments, port=self.port, **self._variables, **shift)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        self._is_paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._signal(signal.SIGCONT)

    def pids(self) -> list[int]:
        return [] if self._process is None else [self._process.process.pid, *_children(self._process.process.pid)]

    def standing(self) -> dict[str, Any]:
        """What `/readyz` says, or what is in the way of asking."""
        try:
            found: dict[str, Any] = httpx2.get(f"http://127.0.0.1:{self.port}/readyz", timeout=3).json()
        except (httpx2.HTTPError, ValueError) as error:
            return {"ready": False, "synced": False, "revision": None, "reason": f"{type(error).__name__}: {error}"}
        return found

    def output(self) -> str:
        return "" if self._process is None else self._process.output()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.process.pid, number)


class World:
    def __init__(self, directory: Path, engine: Engine, postgres: Postgres | None) -> None:
        self.engine = engine
        directory.mkdir()
        self._postgres = postgres
        self._is_database_up = True
        data = directory / "origin"
        self._url = f"sqlite+aiosqlite:///{data}/keywright.db" if postgres is None else postgres.new_database()
        url = [] if postgres is None else ["--database-url", self._url.replace("+asyncpg", "")]
        variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}
        self.origin = Server("serve", data, variables, *url)
        self.origin.start()
        until(lambda: self.origin.standing()["ready"], HEAL_SECONDS)
        self.digester: Digester = secretfiles.load_digester(None, data / "pepper.key")
        # One edge sees everything, the other what its account sees.
        self._sights: dict[str, Callable[[], Sight]] = {}
        self.links: dict[str, Proxy] = {}
        self.disks: dict[str, Disk] = {}
        self.edges: dict[str, Server] = {}
        for name, token in zip(EDGES, (ROOT_KEY, self._new_token()), strict=True):
            link = self.links[name] = Proxy(self.origin.port)
            disk = self.disks[name] = Disk(directory / name)
            variables = {"KEYWRIGHT_EDGE_TOKEN": token, "KEYWRIGHT_PEPPER_FILE": str(data / "pepper.key"),
                         "KEYWRIGHT_EDGE_NAME": name}  # fmt: skip
            self.edges[name] = Server("edge", disk.path, variables, "--origin", link.url)
            self.edges[name].start()
        assert self.wait_until_in_step() == []

    @property
    def readers(self) -> dict[str, int]:
        return {"origin": self.origin.port, **{name: edge.port for name, edge in self.edges.items()}}

    def servers(self) -> dict[str, Server]:
        return {"origin": self.origin, **self.edges}

    def break_(self, step: Step, history: History) -> None:
        dice = random.Random(step.seed)
        if step.fault in LINK_FAULTS:
            self._spoil(self.links[step.owner], step.fault)
        elif step.target == "database":
            assert self._postgres is not None
            self._is_database_up = step.fault is not Fault.KILL
            (kill_database if step.fault is Fault.KILL else pause_database)(self._postgres)
        elif step.fault is Fault.PAUSE:
            self.servers()[step.target].pause()
        elif step.fault is Fault.FILL:
            self.disks[step.owner].fill(self.edges[step.owner].pids())
        else:
            server = self.servers()[step.target]
            server.kill()
            if step.fault is Fault.CLOCK:
                server.start(dice.choice((-clock.HOUR, clock.HOUR)))
            elif step.fault is Fault.CORRUPT:
                history.lost_disks[step.target] = time.monotonic()
                corrupt(server.data_dir / "replica" / "data.mdb", dice)

    def mend(self, step: Step) -> None:
        """Undo a step. What does not come back by itself then, `heal` sees to."""
        if step.fault in LINK_FAULTS:
            self.links[step.owner].heal()
        elif step.target == "database":
            assert self._postgres is not None
            (self._start_database if step.fault is Fault.KILL else lambda: resume_database(self._postgres))()  # type: ignore[arg-type]
        elif step.fault is Fault.PAUSE:
            self.servers()[step.target].resume()
        elif step.fault is Fault.FILL:
            self.disks[step.owner].drain(self.edges[step.owner].pids())
        else:
            server = self.servers()[step.target]
            server.kill()
            server.start()

    def heal(self) -> None:
        """Everything runs again, with right clocks, though it may not be in step yet."""
        for server in self.servers().values():
            server.resume()
        for name, link in self.links.items():
            link.heal()
            self.disks[name].drain(self.edges[name].pids())
        if self._postgres is not None:
            resume_database(self._postgres)
            if not self._is_database_up:
                self._start_database()
        for server in self.servers().values():
            if server.is_shifted:
                server.kill()
                server.start()

    def wait_until_in_step(self) -> list[str]:
        """Return when every edge is at the record's revision; what did not get there in time, in sentences."""
        deadline = time.monotonic() + HEAL_SECONDS
        waiting = self.servers()
        while waiting and time.monotonic() < deadline:
            head = self.origin.standing()["revision"]
            for name, server in list(waiting.items()):
                if not server.is_up:
                    # As a process manager does, again and again: it may have ended because another was away.
                    server.start()
                    time.sleep(0.3)
                standing = server.standing()
                if standing["synced"] and standing["revision"] == head is not None and not _is_audited(server):
                    del waiting[name]
            time.sleep(0.02)
        return [f"{name} did not come back in step: {server.standing()}" for name, server in waiting.items()]

    def look(self, history: History) -> None:
        """Take down what all hold, when nothing changes any more."""
        asyncio.run(self._look_at_record(history))
        for name, edge in self.edges.items():
            try:
                with contextlib.closing(
                    Replica.open(edge.data_dir / "replica", self.digester.pepper_check())
                ) as replica:
                    history.edges[name] = Held(replica.revision, replica.records())
            except (ReplicaBroken, lmdb.Error) as error:
                history.unhealed.append(f"the replica of {name} can't be read: {error}")

    def head(self) -> int:
        history = History()
        asyncio.run(self._look_at_record(history))
        return history.record.revision or 0

    def close(self) -> None:
        for server in self.servers().values():
            server.resume()
            server.kill()
        for name, link in self.links.items():
            link.__exit__()
            self.disks[name].close()

    async def _look_at_record(self, history: History) -> None:
        database = Database(self._url)
        try:
            async with database.read(is_snapshot=True) as tx:
                deployment = await logs.find_deployment(tx)
                assert deployment is not None
                puts: list[Change] = [put async for page in logs.stream_snapshot(tx) for put in page]
                rows = await logs.list_changes(tx, after=history.base, limit=1_000_000)
                account = await accounts.find_account(tx, "my-account")
        finally:
            await database.close()
        assert account is not None
        history.log = [(row.cursor.revision, row.change) for row in rows]
        history.record = Held(deployment.head.revision, puts)
        narrow = Grantee(account.id, Permissions(buckets={"*": Access.VALIDATE}, feed=True))
        history.visible = {
            name: _seen(puts, Sight(grantee)) for name, grantee in zip(EDGES, (_EVERYTHING, narrow), strict=True)
        }

    def _new_token(self) -> str:
        url = f"http://127.0.0.1:{self.origin.port}/v1/accounts/my-account/management-keys"
        headers = {"authorization": f"Bearer {ROOT_KEY}"}
        made = httpx2.post(url, headers=headers, json={"permissions": _FOLLOW}, timeout=10).json()
        return str(made["key"])

    def _spoil(self, link: Proxy, fault: Fault) -> None:
        match fault:
            case Fault.CUT:
                link.cut()
            case Fault.STALL:
                link.stall()
            case Fault.DEAF:
                link.holds_answers = True
            case Fault.MUTE:
                link.holds_requests = True
            case Fault.SLOW:
                link.delay_seconds = 0.1

    def _start_database(self) -> None:
        assert self._postgres is not None
        self._postgres.start()
        self._is_database_up = True


def corrupt(file: Path, dice: random.Random) -> None:
    """Cut a replica's file short, or overwrite parts of it: its head, or anything."""
    size = file.stat().st_size
    if dice.random() < 0.2:
        os.truncate(file, dice.randrange(size))
        return
    with file.open("r+b") as opened:
        for _ in range(dice.randint(1, 4)):
            opened.seek(dice.choice((0, dice.randrange(size))))
            opened.write(dice.randbytes(dice.choice((64, 512, 4096))))


def kill_database(postgres: Postgres) -> None:
    pids = _family_of(postgres)
    postgres.stop(signal.SIGKILL)
    # Its children see that it is gone; as long as one lives, no new server starts.
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), HEAL_SECONDS)


def pause_database(postgres: Postgres) -> None:
    for pid in _family_of(postgres):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def resume_database(postgres: Postgres) -> None:
    for pid in _family_of(postgres):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _is_audited(server: Server) -> bool:
    """Whether its replica is being looked through: what is damaged may not have been noticed yet."""
    name = b"keywright.edge.audit\0" + str(server.data_dir / "replica").encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if name in (entry / "cmdline").read_bytes():
                    return True
    return False


def _family_of(postgres: Postgres) -> list[int]:
    process = postgres.process
    return [] if process is None else [process.pid, *_children(process.pid)]


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text(errors="replace").rpartition(") ")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def _seen(puts: Sequence[Change], sight: Sight) -> list[Change]:
    return [put for put in puts if sight.shows(put)]
