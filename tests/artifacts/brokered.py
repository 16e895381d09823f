"""A key broker on loopback, in a thread of this process, with the keys of sealed artifacts."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from client.broker.app import build
from client.broker.limits import Limits
from client.broker.master import MasterKey
from client.broker.service import Service
from client.broker.store import Store
from client.broker.tokens import Admins
from enclave.artifacts.brokers import resource_of
from sealing.artifact import ReleasedSecret, SignedManifest
from tests.broker.world import ADMIN, Encoding, PublicFormat


@dataclass
class Broker:
    """A running broker."""

    url: str
    store: Store

    def put(self, signed: SignedManifest, secret: ReleasedSecret, policy: str) -> None:
        """Have it keep `secret`, to be released under the policy (TOML) to simulated workers too."""
        now, name = time.time(), signed.manifest.id.hex()
        self.store.set_policy(name, policy, by="test", now=now)
        self.store.put(resource_of(signed), secret.to_bytes(), by="test", now=now)
        limits = Limits(
            policy=name,
            expires=int(now) + 3600,
            releases=None,
            demo=signed.manifest.demo,
            base_root=signed.manifest.base,
        )
        self.store.set_limits({resource_of(signed): limits}, by="test", now=now)


@contextmanager
def broker(directory: Path) -> Iterator[Broker]:
    """A broker with an empty store in `directory`."""
    store = Store(directory / "broker.sqlite", MasterKey(bytes(range(32))))
    pem = ADMIN.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    service = Service(store, Admins.from_pems([pem]), clock=time.time, ticks=time.monotonic)
    server = uvicorn.Server(uvicorn.Config(build(service), lifespan="off", log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Broker(f"http://127.0.0.1:{listener.getsockname()[1]}", store)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
