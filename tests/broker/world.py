"""A broker in this process with an artifact in it, a machine that asks it, and a clock that obeys."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from client.broker.audit import entries
from client.broker.limits import Limits
from client.broker.master import MasterKey
from client.broker.replies import Reply
from client.broker.service import Call, Service
from client.broker.sessions import COOKIE
from client.broker.store import Store
from client.broker.tokens import Admins, admin_token
from enclave.release import Attester, Expected
from enclave.release.transport import Answer
from enclave.simulator.gpu import measurement_digest
from enclave.simulator.reference import policy_for
from sealing import kbs
from sealing.artifact import ReleasedSecret
from tests.broker.machines import NOW, Machine, bound, machine
from tests.enclave import simulation

MODEL = kbs.ResourceId("default", "model", "faq")
MASTER = bytes(range(1, 33))
START = NOW.timestamp()
SECRET = ReleasedSecret(key=b"K" * 32, manifest=b"M" * 32, owner=b"O" * 32, not_after=int(START) + 86400)
EXPECTED = Expected(manifest=SECRET.manifest, owner=SECRET.owner)
POLICY = policy_for(
    simulation.MEASUREMENT,
    measurement_digest(simulation.CODE),
    software="cloister test",
    models=[simulation.MODEL],
)
ADMIN = Ed25519PrivateKey.generate()
LIMITS = Limits(policy="strict", expires=int(START) + 3600, releases=5, demo=True)


@dataclass
class Clock:
    """Unix seconds and a steady clock that go together."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A store with one artifact, and the service over it."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    mark: bool = True

    def __post_init__(self) -> None:
        self.open()
        self.store.set_policy("strict", POLICY, by="test", now=self.clock.now)
        self.store.put(MODEL, SECRET.to_bytes(), by="test", now=self.clock.now)
        self.limit()

    def open(self) -> None:
        """Open the store, as after a start."""
        self.store = Store(self.path, MasterKey(MASTER))
        pem = ADMIN.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.service = Service(
            self.store, Admins.from_pems([pem]), clock=self.clock, ticks=self.clock, mark=self.mark
        )

    def limit(self, **changes: Any) -> None:
        """Set the artifact's limits."""
        self.store.set_limits({MODEL: replace(LIMITS, **changes)}, by="test", now=self.clock.now)

    @property
    def released(self) -> int:
        found = self.store.find(MODEL)
        assert found is not None
        return found.released

    def log(self, *events: str) -> list[Mapping[str, Any]]:
        """The entries of the audit log with these events."""
        with self.store.transaction() as connection:
            return [entry for entry in entries(connection) if entry["event"] in events]

    def call(
        self,
        method: str,
        *path: str,
        session: str | None = None,
        bearer: str | None = None,
        body: bytes = b"",
    ) -> Reply:
        return self.service.handle(Call(method=method, path=path, session=session, bearer=bearer, body=body))

    def admin(self, method: str, *path: str, body: bytes = b"") -> Reply:
        """A call by the administrator."""
        return self.call(method, *path, bearer=admin_token(ADMIN, now=self.clock.now), body=body)

    def auth(self, tee: str = "snp") -> tuple[str, kbs.Challenge]:
        """A session and its challenge."""
        reply = self.call("POST", "auth", body=kbs.Request(tee=tee).to_bytes())
        assert reply.status == 200, reply.body
        cookie = SimpleCookie(reply.headers["set-cookie"])[COOKIE].value
        return cookie, kbs.Challenge.from_bytes(reply.body)

    def attested(self, box: Machine, key: kbs.TeeKeyPair | None = None) -> str:
        """A session that is attested."""
        session, challenge = self.auth()
        sent = box.attest(challenge, key or kbs.TeeKeyPair.generate(), bound(NOW))
        assert self.call("POST", "attest", session=session, body=sent.to_bytes()).status == 200
        return session


@dataclass
class Direct:
    """`Transport` to a service in this process, whose answers somebody may alter."""

    world: World
    name: str = "https://broker.example"
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        cookie = SimpleCookie(headers.get("cookie", ""))
        session = cookie[COOKIE].value if COOKIE in cookie else None
        reply = self.world.call(method, *path.removeprefix("/kbs/v0/").split("/"), session=session, body=body)
        self.seen.append((path, body))
        return self.altered(path, Answer(reply.status, reply.headers, reply.body))

    def altered(self, path: str, answer: Answer) -> Answer:
        return answer


def attester(box: Machine, worker: kbs.Bound | None = None) -> Attester:
    """A worker on `box`."""
    said = worker or bound(NOW)
    return Attester(cpu=box.cpu, devices=box.devices, collateral=box.collateral, bound=lambda: said)


def policy_body(text: str, **more: str) -> bytes:
    """The body that sets a policy."""
    return json.dumps({"policy": base64.b64encode(text.encode()).decode(), **more}).encode()


@contextmanager
def running_machine() -> Iterator[Machine]:
    """A machine at the world's time."""
    with machine(at=NOW) as box:
        yield box
