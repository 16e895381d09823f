"""Protocol steps without IO: a flow yields what to send, is sent what came back, and returns a result."""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class Send:
    """A packet for the peer, to be sent `wait` seconds from now."""

    packet: bytes = field(repr=False)
    wait: float = 0.0


T = TypeVar("T")
Flow = Generator[Send, bytes, T]


def drive(
    flow: Flow[T],
    send: Callable[[bytes], None],
    receive: Callable[[], bytes],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Run a flow over a blocking transport: `send` takes a packet, `receive` waits for one.

    What the two raise (a deadline, say) ends the flow, and what it was part of, for good.
    """
    try:
        step = next(flow)
        while True:
            if step.wait:
                sleep(step.wait)
            send(step.packet)
            step = flow.send(receive())
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


def transact(flow: Flow[T], exchange: Callable[[bytes], bytes]) -> T:
    """As `drive`, over one call that sends a packet and returns the answer."""
    answers: list[bytes] = []
    return drive(flow, lambda packet: answers.append(exchange(packet)), answers.pop)
