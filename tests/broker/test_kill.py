"""kill -9 at every commit boundary and at random: no key lost, no release uncounted, the log verifies."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.broker import audit
from client.broker.limits import Limits
from client.broker.master import MasterKey
from client.broker.store import Asking, Store
from enclave.release import Attester, BrokerAddress, Expected, HttpTransport, ReleaseError, release
from sealing.artifact import ReleasedSecret
from tests.broker.machines import Machine, bound, machine
from tests.broker.running import RunningBroker
from tests.broker.world import MODEL, POLICY, SECRET

DEFAULT_KILLS = 3
WORKERS = 3
FAR = int(time.time()) + 86400


@pytest.fixture(scope="module")
def live() -> Iterator[Machine]:
    with machine(at=None) as made:
        yield made


def secret() -> ReleasedSecret:
    return ReleasedSecret(key=SECRET.key, manifest=SECRET.manifest, owner=SECRET.owner, not_after=FAR)


@dataclass
class Kept:
    """A broker's directory, and what workers were given by the brokers that lived there."""

    data: Path
    given: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.data.mkdir()
        self.master = MasterKey.generate(self.data / "master.key")
        with self.store() as store:
            store.set_policy("strict", POLICY, by="test", now=time.time())
            store.put(MODEL, secret().to_bytes(), by="test", now=time.time())
            limits = Limits(policy="strict", expires=FAR, releases=None, demo=True)
            store.set_limits({MODEL: limits}, by="test", now=time.time())

    def store(self) -> "Opened":
        return Opened(self.data / "broker.db", self.master)

    def start(self, kill_at: str = "") -> RunningBroker:
        module = ("-m", "tests.broker.killed") if kill_at else ("-m", "cloister", "broker", "serve")
        return RunningBroker(self.data, module=module, environment={"KILL_AT": kill_at}).start()

    def ask(self, broker: RunningBroker, live: Machine) -> bool:
        """One release; whether it came."""
        worker = Attester(
            cpu=live.cpu,
            devices=live.devices,
            collateral=live.collateral,
            bound=lambda: bound(datetime.now(UTC)),
        )
        expected = Expected(manifest=SECRET.manifest, owner=SECRET.owner)
        transport = HttpTransport(BrokerAddress(url=broker.url, plaintext=True), timeout=5)
        try:
            found = release(transport, MODEL, worker, expected, clock=time.time)
        except ReleaseError:
            return False
        assert found == secret()
        with self.lock:
            self.given += 1
        return True

    def check(self, remembered: audit.Head | None) -> audit.Head:
        """Open what the dead broker left: nothing lost, everything counted, the log whole."""
        with self.store() as store:
            artifact = store.find(MODEL)
            assert artifact is not None
            with store.transaction() as connection:
                head = audit.verify(connection, remembered)
                counts = [e["count"] for e in audit.entries(connection) if e["event"] == "release"]
            assert counts == list(range(1, artifact.released + 1))
            assert artifact.released >= self.given, "a key went out that nobody counted"
            asking = Asking(session="check", simulated=True, workload=None)
            decision = store.release(MODEL, artifact.version, asking, now=time.time())
            assert decision.secret == secret().to_bytes(), "a key was lost"
            with store.transaction() as connection:
                return audit.verify(connection, head)


class Opened:
    """A store for the time of a `with`."""

    def __init__(self, path: Path, master: MasterKey) -> None:
        self._store = Store(path, master)

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


@pytest.mark.parametrize(("when", "number"), [*(("before", n) for n in range(1, 5)), ("after", 4)])
def test_killed_at_a_commit(tmp_path: Path, live: Machine, when: str, number: int) -> None:
    """A release is four transactions: auth; policies, attest; and one that judges, counts and releases.

    What the disk holds after one of them is what it holds before the next.
    """
    kept = Kept(tmp_path / "broker")
    remembered = kept.check(None)
    given = kept.given
    broker = kept.start(f"{when}:{number}")
    came = kept.ask(broker, live)
    assert broker.process.wait(10) == -signal.SIGKILL
    broker.stop(signal.SIGKILL)
    with kept.store() as store:
        artifact = store.find(MODEL)
    assert artifact is not None
    counted = artifact.released - 1  # the check's own
    assert counted >= kept.given - given
    assert counted == (1 if (when, number) == ("after", 4) else 0)
    assert not came or counted == 1
    kept.check(remembered)


def _kill_at_random(tmp_path: Path, live: Machine, kills: int) -> None:
    kept, chance = Kept(tmp_path / "broker"), random.Random(kills)
    remembered: audit.Head | None = None
    for number in range(kills):
        broker = kept.start()
        stop = threading.Event()

        def work(broker: RunningBroker = broker, stop: threading.Event = stop) -> None:
            while not stop.is_set() and kept.ask(broker, live):
                pass

        workers = [threading.Thread(target=work) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + 30
        while number == 0 and not kept.given and time.monotonic() < deadline:
            time.sleep(0.01)  # one release at least comes, however slow the machine
        time.sleep(chance.uniform(0.0, 0.4))
        broker.stop(signal.SIGKILL)
        stop.set()
        for worker in workers:
            worker.join()
        remembered = kept.check(remembered)
    assert kept.given > 0


def test_killed_at_random(tmp_path: Path, live: Machine) -> None:
    _kill_at_random(tmp_path, live, DEFAULT_KILLS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_200_times(tmp_path: Path, live: Machine) -> None:
    _kill_at_random(tmp_path, live, 200)
