"""The processes that schedules play with: an origin, what is behind it, and edges behind links that can be spoilt.

It lives on from schedule to schedule: what one leaves behind is the ground of the next. `heal` brings everybody back,
as process managers and people would, and nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import lmdb

from faults import clock
from faults.backing import Backing
from faults.disk import Disk
from faults.history import Held, History
from faults.junk import Junk
from faults.schedule import EDGES, LINK_FAULTS, Engine, Fault, Step
from faults.server import Server
from faults.traffic import ROOT_KEY
from keywright.domain.keyformat import Digester
from keywright.domain.permissions import Access, Grantee, Permissions
from keywright.edge.replica.replica import Replica, ReplicaBroken
from keywright.origin.accounts import store as accounts
from keywright.origin.db import commit_log
from keywright.origin.db.snapshot_stream import stream_snapshot
from keywright.origin.db.transaction import Database
from keywright.origin.deployment.store import find_deployment
from keywright.origin.feed.scope_filter import ScopeFilter
from keywright.protocol.changes import Change
from keywright.runtime import secret_files
from support.nats import NatsServer
from support.postgres import Postgres
from support.process import NO_TLS, until
from support.proxy import Proxy

HEAL_SECONDS = 120.0
"""More than the longest pause of anybody who tries again, on a machine that is busy with other things."""
LAG_SECONDS = 10.0
ACT_SECONDS = 0.2
_FOLLOW = {"account": "none", "buckets": {"*": "validate"}, "feed": True}
_EVERYTHING = Grantee("", Permissions(), is_root=True)


class World:
    def __init__(
        self,
        directory: Path,
        engine: Engine,
        postgres: Postgres | None,
        nats: NatsServer | None,
        *,
        workers: int = 1,
        edge_variables: Mapping[str, str] | None = None,
    ) -> None:
        """What is not ours is running already. It is killed and stopped, so it is for this world alone.

        `workers` is how many processes serve and edges have each; `edge_variables` are for edges alone.
        """
        self.engine = engine
        self._frozen_at: dict[str, float] = {}
        self._junk: list[Junk] = []
        self._junk_url = "" if nats is None else nats.url
        directory.mkdir(parents=True)
        data = directory / "origin"
        self._url = f"sqlite+aiosqlite:///{data}/keywright.db"
        self._backings: dict[str, Backing] = {}
        self.links: dict[str, Proxy] = {}
        arguments: list[str] = []
        if postgres is not None:
            self._backings["database"] = Backing(postgres)
            self._url = postgres.new_database()
            arguments += ["--database-url", self._url.replace("+asyncpg", "")]
        if nats is not None:
            self._backings["broker"] = Backing(nats)
            self.links["origin"] = Proxy(nats.port)
            # Two relays, which both carry every change there.
            arguments += ["--nats", _at_broker(self.links["origin"])]
        if nats is not None or workers > 1:
            arguments += ["--workers", "2"]
        variables = {"KEYWRIGHT_BOOTSTRAP_KEY": ROOT_KEY, "KEYWRIGHT_MANAGEMENT_RATE_LIMIT": "0"}
        self.origin = Server("serve", data, variables, *arguments)
        self.origin.start()
        until(lambda: self.origin.standing()["ready"], HEAL_SECONDS)
        pepper_file = data / "pepper.key"
        self.origins = {"origin": self.origin}
        if engine is Engine.ORIGINS:
            other = directory / "origin-2"
            other.mkdir()
            for name in ("pepper.key", "master.key"):
                shutil.copy(data / name, other / name)
            self.origins["origin-2"] = Server("serve", other, variables, *arguments)
            self.origins["origin-2"].start()
            until(lambda: self.origins["origin-2"].standing()["ready"], HEAL_SECONDS)
        self.digester: Digester = secret_files.load_digester(None, pepper_file)
        self.disks: dict[str, Disk] = {}
        self.edges: dict[str, Server] = {}
        # One edge sees everything, over the broker if there is one; the other what its account sees.
        for name, token in zip(EDGES, (ROOT_KEY, self._new_token()), strict=True):
            disk = self.disks[name] = Disk(directory / name)
            variables = {"KEYWRIGHT_PEPPER_FILE": str(pepper_file), "KEYWRIGHT_EDGE_NAME": name}
            variables |= edge_variables or {}
            if nats is not None and token is ROOT_KEY:
                link = self.links[name] = Proxy(nats.port)
                arguments = ["--nats", _at_broker(link)]
            else:
                # The account's edge goes to whichever origin takes it.
                link = self.links[name] = Proxy(
                    *(self.origin_ports.values() if name != EDGES[0] else [self.origin.port])
                )
                arguments = ["--origin", link.url]
                variables["KEYWRIGHT_EDGE_TOKEN"] = token
            arguments += ["--workers", str(workers)]
            self.edges[name] = Server("edge", disk.path, variables, *arguments)
            self.edges[name].start()
        assert self.wait_until_in_step() == []

    @property
    def readers(self) -> dict[str, int]:
        return {name: server.port for name, server in self.servers().items()}

    @property
    def origin_ports(self) -> dict[str, int]:
        return {name: server.port for name, server in self.origins.items()}

    def servers(self) -> dict[str, Server]:
        return {**self.origins, **self.edges}

    def break_(self, step: Step, history: History) -> None:
        dice = random.Random(step.seed)
        if step.fault in (Fault.PAUSE, Fault.FREEZE):
            self._frozen_at[step.target] = time.monotonic()
        if step.fault is Fault.JUNK:
            self._junk.append(Junk(self._junk_url, "keywright", step.seed))
        elif step.fault is Fault.FREEZE:
            is_follower = step.target.endswith("follower")
            self.servers()[step.owner].freeze(is_follower=is_follower, dice=dice)
        elif step.fault in LINK_FAULTS:
            self._spoil(self.links[step.owner], step.fault)
        elif step.target in self._backings:
            backing = self._backings[step.target]
            (backing.kill if step.fault is Fault.KILL else backing.pause)()
        elif step.fault is Fault.PAUSE:
            self.servers()[step.target].pause()
        elif step.fault is Fault.STOP:
            self.servers()[step.target].stop()
        elif step.fault is Fault.FILL:
            self.disks[step.owner].fill(self.edges[step.owner].pids())
        else:
            server = self.servers()[step.target]
            server.kill()
            if step.fault is Fault.CLOCK:
                server.start(dice.choice((-clock.HOUR, clock.HOUR)))
            elif step.fault is Fault.CORRUPT:
                history.damages.append((time.monotonic(), step.target))
                corrupt(server.data_dir / "replica" / "data.mdb", dice)

    def mend(self, step: Step, history: History) -> None:
        """Undo a step. What does not come back by itself then, `heal` sees to."""
        if step.target in self._frozen_at:
            history.freezes.append((self._frozen_at.pop(step.target), time.monotonic(), step.owner))
        if step.fault is Fault.JUNK:
            self._junk[-1].stop()
        elif step.fault is Fault.FREEZE:
            self.servers()[step.owner].thaw()
        elif step.fault in LINK_FAULTS:
            self.links[step.owner].heal()
        elif step.target in self._backings:
            backing = self._backings[step.target]
            (backing.start if step.fault is Fault.KILL else backing.resume)()
        elif step.fault is Fault.PAUSE:
            self.servers()[step.target].resume()
        elif step.fault is Fault.FILL:
            self.disks[step.owner].drain(self.edges[step.owner].pids())
        else:
            server = self.servers()[step.target]
            server.kill()
            if step.fault is Fault.STOP:
                history.comebacks.append((time.monotonic(), step.target))
            server.start()

    def heal(self) -> None:
        """Everything runs again, with right clocks, though it may not be in step yet."""
        for server in self.servers().values():
            server.thaw()
            server.resume()
        for link in self.links.values():
            link.heal()
        for name, disk in self.disks.items():
            disk.drain(self.edges[name].pids())
        for backing in self._backings.values():
            backing.resume()
            backing.start()
        self._end_junk()
        for server in self.servers().values():
            if server.is_shifted:
                server.kill()
                server.start()

    def start_ended(self) -> None:
        """As a process manager does, again and again: one may have ended because another was away."""
        for server in self.servers().values():
            if not server.is_up:
                server.start()

    def wait_until_in_step(self) -> list[str]:
        """Return when every edge is at the record's revision; what did not get there in time, in sentences."""
        deadline = time.monotonic() + HEAL_SECONDS
        waiting = self.servers()
        while waiting and time.monotonic() < deadline:
            self.start_ended()
            head = self.origin.standing()["revision"]
            for name, server in list(waiting.items()):
                # In this order: damage that is found takes it out of step again.
                if not _is_checked(server) and self._settles(server, head):
                    del waiting[name]
            time.sleep(0.02)
        return [f"{name} did not come back in step: {server.standing()}" for name, server in waiting.items()]

    def _settles(self, server: Server, head: int | None) -> bool:
        """Whether it is in step, and still is when it has had time to act on what it may just have found."""
        if not _is_current(server.standing(), head):
            return False
        time.sleep(ACT_SECONDS)
        return _is_current(server.standing(), head)

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
        for junk in self._junk:
            junk.stop()
        for server in self.servers().values():
            server.thaw()
            server.resume()
            server.kill()
        for link in self.links.values():
            link.__exit__()
        for disk in self.disks.values():
            disk.close()

    async def _look_at_record(self, history: History) -> None:
        database = Database(self._url)
        try:
            async with database.read(is_snapshot=True) as tx:
                deployment = await find_deployment(tx)
                assert deployment is not None
                puts: list[Change] = [put async for page in stream_snapshot(tx) for put in page]
                rows = await commit_log.list_changes(tx, after=history.base, limit=1_000_000)
                account = await accounts.find_account(tx, "my-account")
        finally:
            await database.close()
        assert account is not None
        history.log = [(row.cursor.revision, row.change) for row in rows]
        history.record = Held(deployment.head.revision, puts)
        narrow = Grantee(account.id, Permissions(buckets={"*": Access.VALIDATE}, feed=True))
        history.visible = {
            name: _seen(puts, ScopeFilter(grantee)) for name, grantee in zip(EDGES, (_EVERYTHING, narrow), strict=True)
        }

    def _end_junk(self) -> None:
        junk, self._junk = self._junk, []
        for one in junk:
            one.stop()
            one.remove()

    def _new_token(self) -> str:
        url = f"http://127.0.0.1:{self.origin.port}/v1/accounts/my-account/management-keys"
        headers = {"authorization": f"Bearer {ROOT_KEY}"}
        made = httpx2.post(url, headers=headers, json={"permissions": _FOLLOW}, timeout=10, verify=NO_TLS).json()
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


def _is_current(standing: dict[str, Any], head: int | None) -> bool:
    if not standing["synced"] or standing["revision"] is None or standing["revision"] != head:
        return False
    lag = standing["lag_seconds"]
    return lag is not None and lag < LAG_SECONDS


def _is_checked(server: Server) -> bool:
    """Whether its replica is being looked through: what is damaged may not have been noticed yet."""
    name = b"keywright.edge.replica.integrity\0" + str(server.data_dir / "replica").encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if name in (entry / "cmdline").read_bytes():
                    return True
    return False


def _at_broker(link: Proxy) -> str:
    return f"nats://127.0.0.1:{link.port}"


def _seen(puts: Sequence[Change], scope: ScopeFilter) -> list[Change]:
    return [shown for put in puts if (shown := scope.view(put)) is not None]
