"""Fetches a worker's evidence about itself for the hour of a receipt. Public; nothing secret is sent."""

from attestation import Bundle
from attestation.encoding import b64url_encode
from attestation.evidence import MAX_BUNDLE
from sealing.receipts import Receipt

from .attested import refusal
from .wire import HttpWire, Wire, read_all


async def fetch(url: str, receipt: Receipt, *, wire: Wire | None = None) -> Bundle:
    """The bundle for the receipt's hour, keyset and workload. Raises Unreachable, WorkerRefused (404: the
    worker keeps none, any more), MalformedEvidence. Parsed, not verified."""
    line = wire or HttpWire(url)
    query = {"keyset": b64url_encode(receipt.keyset), "workload": b64url_encode(receipt.workload)}
    path = f"/attestation?period={receipt.period}" + "".join(f"&{k}={v}" for k, v in query.items())
    try:
        async with line.send("GET", path, "application/json", b"") as response:
            if response.status != 200:
                raise await refusal(response)
            return Bundle.from_json(await read_all(response, MAX_BUNDLE))
    finally:
        await line.close()
