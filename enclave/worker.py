"""The worker: puts identity, evidence, engine, API and gateway together in the measured process."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import uvloop

from attestation import Bundle, ExitCode, Policy, Workload
from attestation.binding import NONCE_SIZE, sha256
from sealing.consent import Consent, Manifest
from sealing.kbs import Bound
from sealing.ohttp import encode_key_configs

from .api.app import build
from .api.service import Service
from .api.tenants import Issuer, Tenants
from .artifacts.desk import OwnersDesk, owner_hash
from .artifacts.holdings import Holdings
from .artifacts.library import ErasableEngine, Findings, Library
from .artifacts.shelf import Found, Releaser, Shelf
from .artifacts.uploads import Uploads
from .configuration import SOFTWARE, Configuration
from .consent.admission import admit, own_measurement
from .consent.layer import ConsentLayer
from .documents.opening import find_documents, open_documents
from .ending import REFUSALS, ended_quietly, exit_status
from .engine.interface import EngineError
from .engine.runner import EngineRunner
from .files import FilesError, ModelFiles
from .gateway.app import Gateway
from .gateway.desk import EvidenceDesk
from .gateway.metrics import Metrics
from .gateway.oblivious import ObliviousHandler
from .gateway.plain import Application
from .gateway.replay import ReplayCache
from .gpu.bus import BusEnd, Descriptors, Side
from .gpu.device.attested import judge_by
from .gpu.device.engine import DeviceEngine
from .gpu.device.keeper import DeviceKeeper, NotRestored
from .gpu.link import Toll
from .identity import Identity
from .listening import listen
from .memory import Hardening, harden_process
from .receipts.journal import EvidenceJournal
from .receipts.layer import ReceiptLayer
from .release.errors import ReleaseError
from .tee.gather import gather
from .tee.interface import CollateralSource, CpuTee, Device
from .tee.simulated import ProcessorLink, SimulatedCollateral, SimulatedCpu

log = logging.getLogger(__name__)

ROTATION_CHECK = 60.0
EXPIRY_CHECK = 1.0
KEYS_CHECK = 0.2
NEXT_KEY = 0.005
"""Seconds between two one-time keys that are made ahead: about 3 % of a processor until there are enough."""
PARTING = 3.0
"""Seconds that the device may take, when the worker stops, for the step in progress and to erase weights."""
KEPT_FOR_ANSWERS = 128
"""One-time keys that asking for evidence, which anybody may, cannot use up."""


Make = Callable[[Configuration, ModelFiles], ErasableEngine]
"""Makes an engine of a model's files."""


class Worker:
    """One worker's parts. `make` makes its engine, once the parties have agreed.

    `gpu_session` stands for the session with the device in the workload, `part` ends it. Who loses that
    session calls `device_lost`, and with the next one `device_restored`.
    """

    def __init__(
        self,
        configuration: Configuration,
        identity: Identity,
        cpu: CpuTee,
        devices: Sequence[Device],
        collateral: CollateralSource,
        make: Make,
        *,
        gpu_session: str = "",
        part: Callable[[], None] = lambda: None,
    ) -> None:
        self._identity, self._part, self._closed = identity, part, False
        self._cpu = cpu
        self._devices = devices
        self._collateral = collateral
        self._issuers = [Issuer.from_pem(pem.encode()) for pem in configuration.issuers]
        documents = [find_documents(name, place) for name, place in configuration.documents.items()]
        findings = Findings.of(configuration)
        bare = _workload(configuration, self._issuers)
        planned = Workload.from_bytes(findings.listed_in(Holdings(bare)).workload)
        manifest = self._agreed(configuration, planned, documents)
        bare = replace(bare, consent=manifest.digest if manifest else "")
        shelf = Shelf(self._releaser(configuration))
        self._library = Library(findings, shelf, Holdings(bare))
        self._library.holdings.bind(gpu_session)
        self._documents = {found.name: open_documents(found, shelf) for found in documents}
        self._make = lambda files: make(configuration, files)
        self._engine = self._library.load(self._make)
        self._runner = EngineRunner(self._engine)
        texts = dict(self._library.texts)
        service = Service(
            configuration.name,
            texts.pop(configuration.name),
            self._runner,
            holdings=self._library.holdings,
            encoders=texts,
            setting=json.dumps([SOFTWARE, configuration.engine_options()], sort_keys=True).encode(),
        )
        application = self._desk(configuration, build(service, Tenants(self._issuers)))
        self.application = self._under(manifest, application)
        self._journal = EvidenceJournal(self._gather_for_hour)

    @property
    def workload(self) -> bytes:
        """What is loaded right now, as the evidence says it."""
        return self._library.holdings.workload

    def gateway(self) -> Gateway:
        """The ASGI application to expose."""
        metrics = Metrics(stats=self._runner.stats)
        oblivious = ObliviousHandler(
            keys=self._identity,
            workload=lambda: sha256(self.workload),
            application=ReceiptLayer(
                application=self.application,
                signer=self._identity,
                journal=self._journal,
                workload=lambda: self.workload,
                clock=time.time,
            ),
            metrics=metrics,
            replay=ReplayCache(),
            clock=time.time,
            pin=self._library.holdings.pin,
        )
        return Gateway(
            oblivious=oblivious,
            desk=EvidenceDesk(self._gather, metrics, self._journal),
            metrics=metrics,
            key_configs=lambda: encode_key_configs(self._identity.configs()),
        )

    async def keep_identity_fresh(self) -> None:
        """Rotate the keyset when it is due, and erase what has run out; runs until cancelled."""
        while True:
            self._identity.maintain()
            await asyncio.sleep(ROTATION_CHECK)

    async def keep_keys_ready(self) -> None:
        """Make one-time keys ahead of their use, one at a time, so that requests wait 0.1 ms at most."""
        while True:
            await asyncio.sleep(NEXT_KEY if self._identity.prepare() else KEYS_CHECK)

    async def keep_holdings_current(self) -> None:
        """Unload what has expired; runs until cancelled."""
        while True:
            try:
                await self._library.maintain(self._runner, self._engine)
            except Exception as error:  # a device that is gone: what expired is refused already; try again
                log.error("unloading failed: %s", type(error).__name__)
            await asyncio.sleep(EXPIRY_CHECK)

    def device_lost(self) -> None:
        """The session with the device is over: erase every key."""
        with contextlib.suppress(ValueError):  # a worker that stops has erased them for good
            self._identity.renew()
        self._library.holdings.bind("")

    def device_restored(self, gpu_session: str) -> None:
        """A device was attested anew: load into it what is held. Blocks. Raises NotRestored."""
        self._library.holdings.bind(gpu_session)
        try:
            self._library.restore(self._engine, self._make)
        except (FilesError, ReleaseError, EngineError) as error:
            raise NotRestored(str(error)) from error

    def close(self) -> None:
        """Erase the keys, stop the engine, erase the weights, leave the device. May be called again.

        A device that does not answer is left after `PARTING`: without its session it has no weights.
        """
        self._identity.erase()
        if self._closed:
            return
        self._closed = True
        late = threading.Timer(PARTING, self._part)
        late.daemon = True
        late.start()
        self._runner.close()
        self._engine.erase()
        late.cancel()
        self._part()

    def _releaser(self, configuration: Configuration) -> Releaser | None:
        """Where keys of sealed artifacts come from; None if no broker is named."""
        if not configuration.brokers:
            return None
        from .artifacts.brokers import Brokers
        from .release import Attester, HttpTransport

        attester = Attester(
            cpu=self._cpu,
            devices=self._devices,
            collateral=self._collateral,
            bound=lambda: Bound(keyset=self._identity.keyset_bytes, workload=self.workload),
        )
        transports = [HttpTransport(address) for address in configuration.addresses()]
        return Brokers(transports=transports, attester=attester, threshold=configuration.threshold)

    def _desk(self, configuration: Configuration, application: Application) -> Application:
        """The owners' paths beside the API, if any owner is admitted."""
        owners = frozenset(owner_hash(pem.encode()) for pem in configuration.admitted)
        if not owners:
            return application
        return OwnersDesk(
            application=application,
            owners=owners,
            library=self._library,
            runner=self._runner,
            uploads=Uploads(configuration.uploads, owners) if configuration.uploads else None,
            keyset=lambda: sha256(self._identity.keyset_bytes),
        )

    def _agreed(
        self, configuration: Configuration, workload: Workload, documents: Sequence[Found]
    ) -> Manifest | None:
        """What the parties agreed to, if this is to be a joint workload. Raises ConsentRefused."""
        if configuration.consent is None:
            return None
        data = {found.name: (found.root, found.loaded.owner) for found in documents}
        consent = Consent.from_bytes(configuration.consent.read_bytes())
        own = self._evidence(os.urandom(NONCE_SIZE), self._identity.keyset_bytes, None, workload.to_bytes())
        return admit(consent, workload, measurement=own_measurement(own.cpu), data=data, now=int(time.time()))

    def _under(self, manifest: Manifest | None, application: Application) -> Application:
        if manifest is None:
            return application
        log.info("under consent %s of %s", manifest.digest, ", ".join(p.name for p in manifest.parties))
        return ConsentLayer(
            application=application,
            manifest=manifest,
            workload=lambda: self.workload,
            clock=time.time,
            documents=self._documents,
        )

    def _gather(self, nonce: bytes, session: bool) -> Bundle:
        key = self._identity.next_session(spare=KEPT_FOR_ANSWERS) if session else None
        return self._evidence(nonce, self._identity.keyset_bytes, key, self.workload)

    def _gather_for_hour(self, nonce: bytes, keyset: bytes, workload: bytes) -> Bundle:
        return self._evidence(nonce, keyset, None, workload)

    def _evidence(self, nonce: bytes, keyset: bytes, session: bytes | None, workload: bytes) -> Bundle:
        return gather(
            nonce,
            keyset,
            session,
            workload,
            cpu=self._cpu,
            devices=self._devices,
            collateral=self._collateral,
        )


def embedded(configuration: Configuration, files: ModelFiles) -> ErasableEngine:
    """An engine in this process, which then imports torch: where the device is not a process of its own."""
    from .engine.choosing import load

    engine = load(files, configuration.engine)
    log.info("weights are in %s memory", engine.weights_memory)
    return engine


def _workload(configuration: Configuration, issuers: Sequence[Issuer]) -> Workload:
    """What the evidence says, before anything is loaded."""
    return Workload(
        software=SOFTWARE,
        models=(),
        adapters=(),
        engine=configuration.engine_options(),
        policies=tuple(issuer.digest for issuer in issuers),
        consent="",
        clock="host",
    )


@contextlib.asynccontextmanager
async def maintained(worker: Worker) -> AsyncIterator[None]:
    """While in the block, keys are rotated and made ahead, and what has expired is unloaded."""
    tasks = [
        asyncio.create_task(worker.keep_identity_fresh()),
        asyncio.create_task(worker.keep_keys_ready()),
        asyncio.create_task(worker.keep_holdings_current()),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def serve(worker: Worker, host: str, port: int) -> None:
    """Serve until told to stop, then close the worker: the loop waits for threads that ask the device."""
    listener = socket.create_server((host, port))
    async with maintained(worker):
        try:
            await listen(worker.gateway(), listener)
        finally:
            worker.close()


def serve_until_stopped(worker: Worker, configuration: Configuration) -> int:
    """Serve until Ctrl-C or SIGTERM, after which weights and keys are erased; 0."""
    try:
        uvloop.run(serve(worker, configuration.host, configuration.port))
    except KeyboardInterrupt:
        pass
    finally:
        worker.close()
    return ExitCode.ACCEPTED


def say_how_protected(hardened: Hardening, identity: Identity) -> None:
    """Log what the kernel granted."""
    dumps = "off" if hardened.core_dumps_off and hardened.not_dumpable else "NOT off"
    log.info("raw keys are in %s memory; core dumps are %s", identity.memory, dumps)


def main(table: Mapping[str, Any], processor: socket.socket) -> int:
    """Run a worker with the settings in `table` until it is told to stop. The security processor's doing."""
    logging.basicConfig(level=logging.INFO, format="worker: %(message)s")
    hardened = harden_process()
    configuration = Configuration.from_tables(table)
    link = ProcessorLink(processor)
    identity = Identity()
    say_how_protected(hardened, identity)
    toll = Toll() if configuration.gpu_toll else None
    engine = DeviceEngine(ahead=2 if toll else None)
    keeper = _keeper(table, link, engine, toll)

    def on_device(configuration: Configuration, files: ModelFiles) -> ErasableEngine:
        engine.load_model(files, configuration.engine)
        log.info("the device keeps the weights in %s memory", engine.weights_memory)
        return engine

    try:
        with ended_quietly(identity.erase):
            keeper.connect()
            worker = Worker(
                configuration,
                identity,
                SimulatedCpu(link),
                [keeper],
                SimulatedCollateral(link),
                on_device,
                gpu_session=keeper.session,
                part=keeper.close,
            )
    except REFUSALS as error:
        log.error("not started: %s", error)
        keeper.close()
        identity.erase()
        return exit_status(error)
    keeper.watch(worker.device_lost, worker.device_restored)
    return serve_until_stopped(worker, configuration)


def _keeper(
    table: Mapping[str, Any], link: ProcessorLink, engine: DeviceEngine, toll: Toll | None
) -> DeviceKeeper:
    """Who minds the first of the machine's devices."""
    policy, collateral = Policy.from_toml(table["gpu_policy"]), SimulatedCollateral(link)
    end = BusEnd(Descriptors.of(table["buses"][0]), Side.WORKER)
    judge = judge_by(policy, collateral.current, lambda: datetime.now(UTC))
    return DeviceKeeper(end, judge, engine, reset=lambda: link.reset(0), toll=toll)
