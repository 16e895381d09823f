"""The simulated GPU's process: measured and started by the security processor, spoken to over the bus alone.

It has a network namespace and user of its own where the machine allows it, and its own keys. It tells the
security processor one thing, its certificate chain, so that status responses can be had for it. When a
session ends, for whatever reason, its weights are given up and the next one begins with attestation.
"""

import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from enclave.engine.choosing import LoadedEngine
from enclave.engine.interface import EngineOptions, ModelRefused
from enclave.files import ModelFiles
from enclave.gpu.bus import BusEnd, Descriptors, LinkError, Side
from enclave.gpu.link import Link, LinkTimeout, SpdmPort
from enclave.gpu.spdm import Responder, SecureChannel
from enclave.memory import harden_process
from enclave.simulator import messages as simulator
from enclave.simulator.bootstrap import die_with
from enclave.simulator.gpu import GpuIdentity, Mode

from .firmware import responder
from .isolation import FIRST_USER, Isolation, leave_network, leave_user
from .serving import EngineServer, Loader

_log = logging.getLogger(__name__)
_ATTACH: Final = 5.0
_HANDSHAKE: Final = 30.0
_PAUSE: Final = 0.1


class SimulatedGpu:
    """One device at its end of the bus. `load` makes its engine."""

    def __init__(self, end: BusEnd, identity: GpuIdentity, load: Loader) -> None:
        self._end = end
        self._identity = identity
        self._load = load
        self._off = False

    def switch_off(self) -> None:
        """Begin no other session."""
        self._off = True

    def serve(self) -> None:
        """One session after another, until the process is killed."""
        while not self._off:
            try:
                self._end.attach(_ATTACH)
                self._session()
            except LinkTimeout:
                continue  # nobody there yet
            except LinkError as error:
                _log.info("session over: %s", error)
            finally:
                gc.collect()  # weights of the session that has ended
                time.sleep(_PAUSE)

    def _session(self) -> None:
        speaker = responder(self._identity)
        try:
            channel = self._handshake(speaker)
            number = int.from_bytes(channel.session_id, "little")
            with Link(self._end, channel.export_master_secret, number) as link:
                EngineServer(link, speaker.respond, self._load).run()
        finally:
            speaker.forget()

    def _handshake(self, speaker: Responder) -> SecureChannel:
        """Answer SPDM until a session is established."""
        port = SpdmPort(self._end)
        while True:
            try:
                packet = port.receive(timeout=_HANDSHAKE)
            except LinkTimeout:
                self._end.check()
                continue
            port.send(speaker.respond(packet))
            for channel in speaker.sessions.values():
                if channel.established:
                    return channel


def load_engine(files: ModelFiles, options: EngineOptions) -> LoadedEngine:
    """The embedded engine over files that come through the link. Raises ModelRefused."""
    if options.kind != "embedded":
        raise ModelRefused("the simulated device runs the embedded engine alone")
    from enclave.engine.embedded import EmbeddedEngine

    return EmbeddedEngine.load(files, options)


def main(settings: Mapping[str, Any], processor: socket.socket) -> int:
    """Be the device that `settings` describes. The security processor's doing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is for the worker, whose end ends this
    network = leave_network()  # before torch starts threads
    logging.basicConfig(level=logging.INFO, format=f"gpu{settings['index']}: %(message)s")
    harden_process()
    identity = GpuIdentity(
        bytes.fromhex(settings["code"]),
        settings["index"],
        seed=bytes.fromhex(settings["seed"]),
        mode=Mode(settings["mode"]),
    )
    with processor:
        processor.sendall(simulator.encode_request(simulator.DeviceChain(settings["index"], identity.chain)))
    descriptors = Descriptors.of(settings["bus"])
    end = BusEnd(descriptors, Side.DEVICE)
    os.close(descriptors.memory)
    import enclave.engine.embedded  # noqa: F401  torch takes seconds: before a worker waits for it

    parent = os.getppid()
    isolation = Isolation(network, leave_user(FIRST_USER + settings["index"]))
    die_with(parent)
    harden_process()
    _log.info(
        "keys are in %s memory; network: %s; user: %s", identity.memory, isolation.network, isolation.user
    )
    SimulatedGpu(end, identity, load_engine).serve()
    return 0
