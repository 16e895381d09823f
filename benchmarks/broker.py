"""How many releases a key broker makes a second: its own CPU time for one, and what a disk lets through.

A release is the whole exchange: challenge, attestation judged under a strict policy (simulated SEV-SNP and
one GPU), the transaction that counts and logs it, the JWE. The evidence is made outside the clock.

    python -m benchmarks.broker [--rounds N] [--json FILE]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import Figure, at_most, parser, publish
from client.broker.limits import Limits
from client.broker.master import MasterKey
from client.broker.service import Call, Service
from client.broker.sessions import COOKIE
from client.broker.store import Asking, Store
from client.broker.tokens import Admins
from enclave.release import Attester
from sealing import kbs
from tests.broker.machines import bound, machine
from tests.broker.world import POLICY, SECRET

NAME = kbs.ResourceId("default", "model", "bench")
EACH = 20


@contextmanager
def broker() -> Iterator[tuple[Store, Service]]:
    """A broker in this process, over a database on disk, with one artifact."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "broker.db", MasterKey(bytes(range(32))))
        now = time.time()
        store.set_policy("strict", POLICY, by="bench", now=now)
        store.put(NAME, SECRET.to_bytes(), by="bench", now=now)
        limits = Limits(policy="strict", expires=int(now) + 86400, releases=None, demo=True)
        store.set_limits({NAME: limits}, by="bench", now=now)
        try:
            yield store, Service(store, Admins({}), clock=time.time, ticks=time.monotonic)
        finally:
            store.close()


class Stopwatch:
    """CPU and wall time of what runs under it."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.thread_time() - self._cpu
        self.wall += time.perf_counter() - self._wall


def release(service: Service, worker: Attester, watch: Stopwatch) -> None:
    """One exchange; only the broker's part runs under `watch`."""
    with watch:
        reply = service.handle(
            Call(method="POST", path=("auth",), body=kbs.Request(tee=worker.tee).to_bytes())
        )
    session = reply.headers["set-cookie"].split(";")[0].removeprefix(f"{COOKIE}=")
    key = kbs.TeeKeyPair.generate()
    body = worker.attest(kbs.Challenge.from_bytes(reply.body), key).to_bytes()
    with watch:
        service.handle(Call(method="POST", path=("attest",), session=session, body=body))
        reply = service.handle(Call(method="GET", path=("resource", *str(NAME).split("/")), session=session))
    if kbs.open_response(reply.body, key) != SECRET.to_bytes():
        raise RuntimeError("the broker released something else")


def figures(rounds: int) -> list[Figure]:
    """Medians over `rounds`."""
    exchanges, counts = [], []
    with machine(at=None) as box, broker() as (store, service):
        worker = Attester(
            cpu=box.cpu,
            devices=box.devices,
            collateral=box.collateral,
            bound=lambda: bound(datetime.now(UTC)),
        )
        release(service, worker, Stopwatch())
        asking = Asking(session="bench", simulated=True, workload=None)
        for _ in range(rounds):
            watch, disk = Stopwatch(), Stopwatch()
            for _ in range(EACH):
                release(service, worker, watch)
            with disk:
                for _ in range(EACH):
                    store.release(NAME, 1, asking, now=time.time())
            exchanges.append(watch)
            counts.append(disk)
    cpu = statistics.median(each.cpu for each in exchanges) / EACH
    wall = statistics.median(each.wall for each in exchanges) / EACH
    disk_wall = statistics.median(each.wall for each in counts) / EACH
    return [
        at_most("broker's CPU time for one release", 1000 * cpu, "ms"),
        at_most("releases a second, by CPU time of one thread", 1 / cpu, "1/s"),
        at_most("releases a second, one after the other, with the disk", 1 / wall, "1/s"),
        at_most("counts a second (decide, count, log, sync)", 1 / disk_wall, "1/s"),
        at_most("share of a release that is CPU time", cpu / wall, "ratio"),
    ]


def main() -> int:
    """Measure and publish."""
    options = parser(__doc__ or "", 5).parse_args()
    publish("broker", figures(options.rounds), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
