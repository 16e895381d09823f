"""A client's receipts: checked as they arrive, kept as files that can be shown one by one."""

import hmac
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attestation import Keyset
from attestation.binding import sha256
from sealing.errors import MalformedMessage, SignatureRefused
from sealing.receipts import EventText, Receipt, Salts, SignedReceipt, commitment, from_trailers

from .errors import ReceiptRefused

if TYPE_CHECKING:
    from .attested import Attested
    from .channel import Response

RECEIPTED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
"""Calls that a model answers."""
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A signed receipt with what opens it: the salts and the two bodies, which the client alone has."""

    signed: SignedReceipt
    salts: Salts = field(repr=False)
    request: bytes = field(repr=False)
    response: bytes = field(repr=False)

    @property
    def receipt(self) -> Receipt:
        """What was signed."""
        return self.signed.receipt

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write `path` (the receipt, which anybody may see) and beside it .salts, .request and .response.

        The three are for the owner and whoever he shows them to: readable by him alone.
        """
        private = (
            (".salts", self.salts.to_bytes()),
            (".request", self.request),
            (".response", self.response),
        )
        path.write_bytes(self.signed.raw)
        return path, *(_write_private(path.with_name(path.name + end), content) for end, content in private)


class KeptEvents:
    """Keeps what a receipt covers of an event stream while it is read."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._events = EventText(self)

    def feed(self, piece: bytes) -> None:
        """A piece without padding."""
        self._kept += piece

    async def of(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """`body`, unchanged."""
        async for piece in body:
            self.take(piece)
            yield piece

    def take(self, piece: bytes) -> None:
        """A piece as it came."""
        self._events.feed(piece)

    @property
    def done(self) -> bool:
        """Whether the last event of OpenAI's streams was there."""
        return self._kept.endswith(DONE)

    def text(self) -> bytes:
        """The stream as the receipt covers it; after its end."""
        self._events.close()
        return bytes(self._kept)


class ReceiptedBody(AsyncIterator[bytes]):
    """The body of an answer whose request asked for a receipt, which `tell` gets at its end.

    OpenAI's clients leave a stream at [DONE]; closed there, it is read on to its end. Raises what `received`
    raises, if a model answered.
    """

    def __init__(self, response: "Response", request: bytes, tell: Callable[[Proof], None]) -> None:
        self._response = response
        self._request = request
        self._tell = tell
        self._stream = response.header(b"content-type").startswith(b"text/event-stream")
        self._events, self._plain = KeptEvents(), bytearray()
        self._ended = False

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._response.body)
        except StopAsyncIteration:
            self._finish()
            raise
        if self._stream:
            self._events.take(piece)
        else:
            self._plain += piece
        return piece

    async def aclose(self) -> None:
        """Read on behind [DONE]; elsewhere nothing, since leaving early tells the worker to stop."""
        if self._stream and self._events.done and not self._ended:
            async for _ in self:
                pass

    def _finish(self) -> None:
        if not self._ended and self._response.status == 200:
            body = self._events.text() if self._stream else bytes(self._plain)
            self._tell(received(self._response, self._request, body))
        self._ended = True


def received(response: "Response", request: bytes, body: bytes) -> Proof:
    """The receipt of an answer that was read to its end: `request` and `body` are the two bodies.

    Raises ReceiptRefused if it is missing or not of this answer, by this worker, of this workload.
    """
    try:
        found = from_trailers(response.trailers)
    except MalformedMessage as error:
        raise ReceiptRefused(str(error)) from None
    if found is None:
        raise ReceiptRefused("the worker sent no receipt")
    signed, salts = found
    proof = Proof(signed=signed, salts=salts, request=request, response=body)
    _check(proof, response.attested)
    return proof


def _check(proof: Proof, attested: "Attested") -> None:
    receipt = proof.receipt
    try:
        proof.signed.check(Keyset.from_bytes(attested.bundle.keyset).receipt_public_key)
    except SignatureRefused as error:
        raise ReceiptRefused(f"the receipt: {error}") from None
    expected = (
        sha256(attested.bundle.keyset),
        attested.workload_digest,
        commitment(proof.request, proof.salts.request),
        commitment(proof.response, proof.salts.response),
    )
    found = (receipt.keyset, receipt.workload, receipt.request, receipt.response)
    if not all(hmac.compare_digest(f, e) for f, e in zip(found, expected, strict=True)):
        raise ReceiptRefused("the receipt is of another worker, workload or answer")


def _write_private(path: Path, content: bytes) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # a file that was there keeps its own mode
        file.write(content)
    return path
