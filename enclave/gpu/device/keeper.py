"""Keeps one attested session with the device: attests it at the start, and anew whenever it was lost."""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from attestation import DeviceEvidence
from attestation.binding import sha256
from enclave.gpu.bus import BusEnd, LinkError
from enclave.gpu.link import Link, SpdmPort, Toll, TolledLink
from enclave.gpu.spdm import Judge, Session, SpdmError
from enclave.memory import MemoryUnavailable
from enclave.tee.interface import EvidenceUnavailable

from .attested import TEE, AttestedGpu, attest
from .engine import DeviceEngine

_log = logging.getLogger(__name__)

ATTACH: Final = 120.0
ANSWER: Final = 20.0
CHECK: Final = 0.2
PAUSE: Final = 0.5
END: Final = 5.0
"""Seconds that `close` gives the thread that minds the session, which may be asking a broker."""
LONG_PAUSE: Final = 30.0
_LABEL: Final = b"cloister/gpu-session/v1"
_NO_SESSION: Final = (LinkError, SpdmError, EvidenceUnavailable, MemoryUnavailable)
"""Why there is no session this time; another attempt may succeed."""


class DeviceUnavailable(Exception):
    """No session with a device that can be trusted; the message says why."""


class NotRestored(Exception):
    """What the last device held could not be loaded into the next; the message says why."""


class DeviceKeeper:
    """One device's session, over a bus end of the worker's side. Implements `tee.Device`.

    `reset` asks for the device to be restarted: one that does not answer will not do it by itself. `toll`
    makes crossings as slow as on confidential hardware.
    """

    tee = TEE

    def __init__(
        self,
        end: BusEnd,
        judge: Judge,
        engine: DeviceEngine,
        *,
        reset: Callable[[], None] = lambda: None,
        attach_timeout: float = ATTACH,
        toll: Toll | None = None,
    ) -> None:
        self._end, self._judge, self._engine, self._reset = end, judge, engine, reset
        self._attach_timeout, self._toll = attach_timeout, toll
        self._gpu: AttestedGpu | None = None
        self._link: Link | None = None
        self._session = ""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def session(self) -> str:
        """What stands for the session in the workload: 32 hexadecimal digits; empty while there is none."""
        return self._session

    def connect(self) -> None:
        """Attach, attest, and give the engine the link. Raises DeviceUnavailable."""
        try:
            self._connect()
        except _NO_SESSION as error:
            self._let_go(str(error))
            raise DeviceUnavailable(f"no session with the GPU: {error}") from error

    def report(self, nonce: bytes) -> DeviceEvidence:
        """Evidence from the session. Raises EvidenceUnavailable while there is none."""
        gpu = self._gpu
        if gpu is None or self._engine.loading:
            raise EvidenceUnavailable("the GPU is being attested anew, or loads: ask again later")
        return gpu.report(nonce)

    def watch(self, on_lost: Callable[[], None], restore: Callable[[str], None]) -> None:
        """Notice the loss of the session from now on, and mend it.

        `on_lost` is called when it has ended against our will; `restore` with the next one's name, once a
        device was judged anew: it loads what is to be loaded, or raises NotRestored. Both are called from a
        thread of this object.
        """
        self._thread = threading.Thread(
            target=self._watch, args=(on_lost, restore), name="device", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the session, in good order if the device listens; one that does not is not waited for."""
        self._closing.set()
        over = time.monotonic() + END
        while True:
            self._let_go("the worker stops")
            self._end.detach()
            if self._thread is None or not self._thread.is_alive() or time.monotonic() > over:
                return
            self._thread.join(CHECK)  # it may have been about to begin a session

    def _connect(self) -> None:
        self._end.attach(self._attach_timeout)
        port = SpdmPort(self._end)

        def exchange(packet: bytes) -> bytes:
            port.send(packet, timeout=ANSWER)
            return port.receive(timeout=ANSWER)

        session = attest(exchange, self._judge)
        try:
            self._link = link = self._link_of(session)
        except BaseException:
            session.erase()
            raise
        self._gpu = AttestedGpu(session, lambda packet: self._exchange_in_session(link, packet))
        self._session = sha256(_LABEL + session.transcript_hash)[:16].hex()
        self._engine.attach(link)

    def _exchange_in_session(self, link: Link, packet: bytes) -> bytes:
        """The device answers SPDM between two steps: it has the time of two."""
        return link.exchange_spdm(packet, timeout=2 * self._engine.deadline)

    def _link_of(self, session: Session) -> Link:
        """A link under the session's export master secret. Raises LinkBroken, MemoryUnavailable."""
        secret = session.export_master_secret()
        number, toll = int.from_bytes(session.id, "little"), self._toll
        try:
            if toll:
                return TolledLink(self._end, secret, number, toll=toll)
            return Link(self._end, secret, number)
        finally:
            secret[:] = bytes(len(secret))

    def _watch(self, on_lost: Callable[[], None], restore: Callable[[str], None]) -> None:
        beat = time.monotonic()
        while not self._closing.wait(CHECK):
            why = self._trouble()
            if why is None and time.monotonic() - beat > self._period():
                beat = time.monotonic()
                why = self._heartbeat()
            if why is None or self._closing.is_set():
                continue
            _log.warning("the device was lost: %s", why)
            silent = self._engine.silent or (self._gpu is not None and not self._gpu.session.alive)
            self._let_go(why, on_lost)
            if silent:
                self._request_reset()
            self._mend(restore)

    def _trouble(self) -> str | None:
        """Why the session is over, or None while it stands."""
        link, gpu = self._link, self._gpu
        if link is None or gpu is None or not self._engine.attached:
            return self._engine.trouble
        if not gpu.session.alive:
            return "the SPDM session has ended"
        if link.broken is not None:
            return str(link.broken)
        try:
            self._end.check()
        except LinkError as error:
            return str(error)
        return None

    def _period(self) -> float:
        period = self._gpu.session.heartbeat_period if self._gpu else 0
        return period / 2 or float("inf")

    def _heartbeat(self) -> str | None:
        try:
            if self._gpu is not None and not self._engine.has_work():
                self._gpu.heartbeat()
        except (LinkError, SpdmError) as error:
            return str(error)
        return None

    def _mend(self, restore: Callable[[str], None]) -> None:
        """Attest and load anew until it succeeds or `close` is called. A device that fails is reset."""
        pauses = itertools.chain((PAUSE, 1.0, 2.0, 5.0, 10.0), itertools.repeat(LONG_PAUSE))
        while not self._closing.is_set():
            try:
                self._connect()
                restore(self._session)
                return
            except NotRestored as error:
                why, ours = str(error), True
            except _NO_SESSION as error:
                why, ours = str(error), False
            self._let_go(why)
            if self._closing.is_set():
                return
            _log.warning("the device cannot be used again yet: %s", why)
            if not ours:
                self._request_reset()
            self._closing.wait(next(pauses))

    def _request_reset(self) -> None:
        try:
            self._reset()
        except EvidenceUnavailable as error:
            _log.warning("no reset: %s", error)

    def _let_go(self, why: str, erase: Callable[[], None] = lambda: None) -> None:
        """Keys go first, `erase`'s before all, then the link, which wakes whoever waits for the device."""
        link, self._link = self._link, None
        gpu, self._gpu = self._gpu, None
        self._session = ""
        erase()
        if gpu is not None:
            gpu.session.erase()
        self._engine.lost(why)
        if link is not None:
            link.close()
