"""Cost of the sealed channel: HPKE against the bare KEM, and one streamed event.

Every ratio is the median over rounds that interleave both sides, by CPU time, in one process.

    python -m benchmarks.sealing [--rounds N] [--json FILE]
"""

import statistics
import time
from collections.abc import Callable

from benchmarks.report import Figure, at_most, parser, publish
from sealing import padding
from sealing.bhttp import ResponseDecoder, ResponseEncoder
from sealing.hpke import MLKEM768_X25519_AES256, X25519_AES128, Suite, setup_recipient, setup_sender
from sealing.kem import encapsulate
from sealing.ohttp import ChunkedRequestOpener, ChunkedRequestSealer, GatewayKey

MESSAGE = bytes(1024)
EVENT = b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1764000000,' + (
    b'"model":"faq","choices":[{"index":0,"delta":{"content":" enclave"},"finish_reason":null}]}\n\n'
)
BATCH = 8
EVENTS = 400


def cpu_us(call: Callable[[], object], repeat: int) -> float:
    """CPU microseconds a call."""
    start = time.process_time_ns()
    for _ in range(repeat):
        call()
    return (time.process_time_ns() - start) / repeat / 1000


def compare(
    ours: Callable[[], object], bare: Callable[[], object], rounds: int
) -> tuple[float, float, float]:
    """Medians: microseconds of ours, of bare, and of the ratio within each round."""
    pairs = [(cpu_us(ours, 60), cpu_us(bare, 60)) for _ in range(rounds)]
    mine, theirs = zip(*pairs, strict=True)
    return (
        statistics.median(mine),
        statistics.median(theirs),
        statistics.median(a / b for a, b in pairs),
    )


def hpke_figures(name: str, suite: Suite, rounds: int) -> list[Figure]:
    """Seal and open one message of 1 KiB, key schedule and exporter included, against the KEM alone."""
    key = GatewayKey.generate(1, suite)
    public, private = key.config.public_key, key.private_key
    enc, context = setup_sender(suite, public, b"info")
    sealed = context.seal(MESSAGE)

    def seal() -> bytes:
        return setup_sender(suite, public, b"info")[1].seal(MESSAGE)

    def open_() -> bytes:
        return setup_recipient(suite, enc, private, b"info").open(sealed)

    figures = []
    for verb, ours, bare in (
        ("seal", seal, lambda: encapsulate(suite.kem, public)),
        ("open", open_, lambda: private.decapsulate(enc)),
    ):
        mine, kem, ratio = compare(ours, bare, rounds)
        figures += [
            at_most(f"{name} {verb} 1 KiB", mine, "us"),
            at_most(f"{name} bare KEM for {verb}", kem, "us"),
            at_most(f"{name} {verb} / bare KEM", ratio, "ratio", 1.3),
        ]
    return figures


def stream_figures(rounds: int) -> list[Figure]:
    """One streamed token's event of 512 bytes: padded, framed, sealed; and back again."""
    key = GatewayKey.generate(1)
    batch = EVENT * BATCH
    runs: dict[str, list[float]] = {"sealing": [], "opening": [], "sealing in batches of 8": []}
    for _ in range(rounds):
        client = ChunkedRequestSealer(key.config)
        gateway = ChunkedRequestOpener(lambda _: key)
        gateway.feed(client.header)
        server, opener = gateway.response_sealer(), client.response_opener()
        encoder, decoder = ResponseEncoder(), ResponseDecoder()
        opener.feed(server.header + server.seal(encoder.head(200)))
        sent: list[bytes] = []

        def send(event: bytes) -> None:
            sent.append(server.seal(encoder.data(padding.pad_event(event))))  # noqa: B023

        runs["sealing"].append(cpu_us(lambda: send(EVENT), EVENTS))
        arrived = iter(sent[:])

        def receive() -> None:
            for plaintext in opener.feed(next(arrived)):  # noqa: B023
                decoder.feed(plaintext)  # noqa: B023

        decoder.feed(ResponseEncoder().head(200))
        runs["opening"].append(cpu_us(receive, EVENTS))
        runs["sealing in batches of 8"].append(cpu_us(lambda: send(batch), EVENTS // BATCH) / BATCH)
    return [
        at_most(f"stream, {name}, an event", statistics.median(values), "us", 2.5 if "seal" in name else None)
        for name, values in runs.items()
    ]


def main() -> None:
    """Measure and publish."""
    options = parser(__doc__ or "", rounds=30).parse_args()
    figures = hpke_figures("X25519", X25519_AES128, options.rounds)
    figures += hpke_figures("MLKEM768-X25519", MLKEM768_X25519_AES256, options.rounds)
    figures += stream_figures(options.rounds)
    publish("sealing", figures, options.json)


if __name__ == "__main__":
    main()
