"""A worker without sockets: gateway, identity and simulated hardware in this process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from attestation import Bundle, LoadedModel, Policy, Workload
from attestation.binding import sha256
from client.sdk import AsyncClient
from client.wire import WireResponse
from enclave.gateway.app import Gateway
from enclave.gateway.desk import EvidenceDesk
from enclave.gateway.metrics import Metrics
from enclave.gateway.oblivious import ObliviousHandler
from enclave.gateway.plain import Message, Receive, Scope, Send
from enclave.gateway.replay import ReplayCache
from enclave.gpu.device.attested import AttestedGpu
from enclave.identity import Identity
from enclave.receipts.account import note
from enclave.receipts.journal import EvidenceJournal
from enclave.receipts.layer import ReceiptLayer
from enclave.simulator.chip import SnpProcessor
from enclave.simulator.gpu import measurement_digest
from enclave.simulator.reference import policy_for
from enclave.tee.gather import gather
from enclave.tee.simulated import ProcessorLink, SimulatedCollateral, SimulatedCpu
from sealing.ohttp import encode_key_configs
from tests.enclave.simulation import attended, gpu, processor, simulated

MEASUREMENT = bytes(range(48))
CODE = bytes(48)
MODEL = LoadedModel(name="faq", root=bytes(32), owner="")
OTHER = LoadedModel(name="other", root=b"\1" * 32, owner="")


@dataclass
class Clock:
    """Unix seconds that a test moves."""

    now: float = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class InProcess:
    """The worker and the wire to it. `sent` keeps (path, body) of every request that crossed.

    `instead` is what the application answers in place of an answer, if it is not empty.
    """

    link: ProcessorLink
    clock: Clock
    gpu: AttestedGpu
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    instead: bytes = b""
    hours: int = 0
    workload: Workload = field(
        default_factory=lambda: Workload(
            software="cloister test",
            models=(MODEL,),
            adapters=(),
            engine={},
            policies=(),
            consent="",
            clock="host",
        )
    )

    def __post_init__(self) -> None:
        self.identity = Identity(clock=self.clock)
        self.journal = EvidenceJournal(self._gather_for_hour)
        metrics = Metrics()
        oblivious = ObliviousHandler(
            keys=self.identity,
            workload=lambda: sha256(self.workload.to_bytes()),
            application=ReceiptLayer(
                application=self._application,
                signer=self.identity,
                journal=self.journal,
                workload=lambda: self.workload.to_bytes(),
                clock=self.clock,
            ),
            metrics=metrics,
            replay=ReplayCache(),
            clock=self.clock,
        )
        self.gateway = Gateway(
            oblivious=oblivious,
            desk=EvidenceDesk(self._gather, metrics, self.journal),
            metrics=metrics,
            key_configs=lambda: encode_key_configs(self.identity.configs()),
        )

    def load(self, *models: LoadedModel) -> None:
        """Change what is loaded."""
        self.workload = replace(self.workload, models=models)

    def policy(self) -> Policy:
        """The policy that pins this worker and allows both models."""
        gpu = measurement_digest(CODE)
        roots = [MODEL.root, OTHER.root]
        return Policy.from_toml(policy_for(MEASUREMENT, gpu, software="cloister test", models=roots))

    def client(self, **options: object) -> AsyncClient:
        """A client whose wire ends here."""
        return AsyncClient("http://127.0.0.1:1", self.policy(), wire=self, clock=self.clock, **options)  # type: ignore[arg-type]

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.sent]

    @asynccontextmanager
    async def send(self, method: str, path: str, media_type: str, body: bytes) -> AsyncIterator[WireResponse]:
        """`client.wire.Wire`, straight into the gateway."""
        self.sent.append((path, body))
        messages: asyncio.Queue[Message] = asyncio.Queue()
        incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.Event()

        async def receive() -> Message:
            if incoming:
                return incoming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        headers = [(b"content-type", media_type.encode())]
        bare, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": bare,
            "query_string": query.encode(),
            "headers": headers,
        }
        running = asyncio.create_task(self.gateway(scope, receive, messages.put))
        running.add_done_callback(lambda _: messages.put_nowait({"body": b""}))  # an answer broken off ends
        try:
            start = await messages.get()
            fields = {name.decode(): value.decode() for name, value in start["headers"]}
            yield WireResponse(start["status"], fields, _pieces(messages))
        finally:
            gone.set()
            await running

    async def close(self) -> None:
        """Nothing to close."""

    def _gather(self, nonce: bytes, session: bool) -> Bundle:
        key = self.identity.next_session() if session else None
        return self._evidence(nonce, self.identity.keyset_bytes, key, self.workload.to_bytes())

    def _gather_for_hour(self, nonce: bytes, keyset: bytes, workload: bytes) -> Bundle:
        self.hours += 1
        return self._evidence(nonce, keyset, None, workload)

    def _evidence(self, nonce: bytes, keyset: bytes, session: bytes | None, workload: bytes) -> Bundle:
        return gather(
            nonce,
            keyset,
            session,
            workload,
            cpu=SimulatedCpu(self.link),
            devices=[self.gpu],
            collateral=SimulatedCollateral(self.link),
        )

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a chat request with the question, word by word if streamed."""
        if self.instead:
            await _send(send, b"application/json", self.instead)
            return
        request = json.loads((await receive())["body"])
        question = request["messages"][-1]["content"]
        self.answered.append(question)
        note(request["model"], lambda: {"prompt_tokens": 2, "completion_tokens": len(question.split())})
        if request.get("stream"):
            await _stream(send, question.split())
            return
        message = {"message": {"content": question}, "finish_reason": "stop"}
        body = json.dumps({"model": "faq", "choices": [message], "usage": {"total_tokens": 1}}).encode()
        await _send(send, b"application/json", body)


async def _send(send: Send, media_type: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media_type)]})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, words: list[str]) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for word in words:
        event = json.dumps({"choices": [{"delta": {"content": word}}]}).encode()
        await send({"type": "http.response.body", "body": b"data: " + event + b"\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _pieces(messages: "asyncio.Queue[Message]") -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await messages.get()
        yield message.get("body", b"")
        more = message.get("more_body", False)


@asynccontextmanager
async def in_process() -> AsyncIterator[InProcess]:
    """A worker for one test."""
    from datetime import UTC, datetime

    clock = Clock()
    at = lambda: datetime.fromtimestamp(clock.now, UTC)  # noqa: E731
    cpu = SnpProcessor(MEASUREMENT, clock=at)
    with attended(processor(cpu, [device := gpu(code=CODE)])) as end:
        link = ProcessorLink(end)
        worker = InProcess(link, clock, simulated(device))
        try:
            yield worker
        finally:
            worker.identity.erase()
            link.close()
