"""The other process of benchmarks/link.py: plays the device at the far end of the link.

python -m benchmarks.link_device ORDERS       (JSON: descriptors, geometry, part)
"""

import json
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.paced import PacedEngine
from enclave.gpu.bus import BusEnd, Descriptors, Geometry, LinkBroken, Side
from enclave.gpu.device.serving import EngineServer
from enclave.gpu.link import Link, Toll, TolledLink
from enclave.memory import Kind

MASTER: Final = bytes(range(48))
SESSION: Final = 1
ARENA: Final = 16 << 20
BURST: Final = 48
CPU: Final = struct.Struct("<d")
PAIR: Final = struct.Struct("<2d")


def connect(end: BusEnd, toll: Toll | None = None) -> Link:
    """A link under a key that protects nothing: this is a benchmark."""
    end.attach(20.0)
    if toll is not None:
        return TolledLink(end, MASTER, SESSION, toll=toll, timeout=20.0, kinds=tuple(Kind))
    return Link(end, MASTER, SESSION, timeout=20.0, kinds=tuple(Kind))


def take_bulk(link: Link, end: BusEnd) -> None:
    """Open objects into a reused arena; after each, say how much processor time this process has used."""
    arena = memoryview(bytearray(ARENA))
    while True:
        link.receive_bulk(arena)
        link.send(CPU.pack(time.process_time()))


def take_bursts(link: Link, end: BusEnd) -> None:
    """Open a burst's first message, let the rest arrive; say what opening that costs, and bare AEAD."""
    key, plain = AESGCM(bytes(32)), memoryview(bytearray(64))
    nonce, data = bytes(12), bytes(32)
    sealed = key.encrypt(nonce, bytes(64), data)
    while True:
        link.receive()
        time.sleep(0.002)
        bare = cpu_of(lambda: key.decrypt_into(nonce, sealed, data, plain))
        link.send(PAIR.pack(cpu_of(link.receive), bare))


def cpu_of(call: Callable[[], object]) -> float:
    """CPU seconds of a burst of calls."""
    begin = time.process_time()
    for _ in range(BURST):
        call()
    return time.process_time() - begin


def run_engine(link: Link, end: BusEnd) -> None:
    """The device's own loop over an engine whose steps take so long as the model's label says.

    What comes in SPDM's place asks for the processor time used so far.
    """
    EngineServer(link, lambda _: CPU.pack(time.process_time()), PacedEngine).run()


PARTS: Final[dict[str, Callable[[Link, BusEnd], None]]] = {
    "bulk": take_bulk,
    "bursts": take_bursts,
    "engine": run_engine,
}


def main() -> None:
    """Play the part until the other end goes."""
    orders = json.loads(sys.argv[1])
    end = BusEnd(Descriptors.of(orders["descriptors"]), Side.DEVICE, Geometry(**orders["geometry"]))
    try:
        PARTS[orders["part"]](connect(end), end)
    except LinkBroken:
        end.close()


if __name__ == "__main__":
    main()
