"""Copies between host and a CUDA device, all on one thread that owns them.

In confidential mode every copy is encrypted by the driver, holds its caller up even where it is called
asynchronous, and waits for every other. One thread does them, in order, while the caller reads and decrypts
what comes next. Page-locked memory is not used, which out of that mode is two to three times faster: in it,
it may be slower, or not what it seems, and it would hold plaintext outside secret memory. torch is imported
when the first copy is made, not before.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import TYPE_CHECKING, Any, Final, Self

from enclave.engine.interface import EngineError

if TYPE_CHECKING:
    import torch

PROBE_BYTES: Final = 1 << 20
PROBE_SECONDS: Final = 20.0


class DeviceSilent(EngineError):
    """The device did not give back what was copied to it; the message says what to do."""


class Crossings:
    """Owns all copies to and from `device`. Use it as a context manager, or close it.

    The device is probed first: what is written must come back within `probe_seconds`, or DeviceSilent is
    raised. A thread that hangs in the driver is left behind; it does not keep the process alive.
    """

    def __init__(self, device: str, *, probe_seconds: float = PROBE_SECONDS) -> None:
        self.device = device
        self._asked: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="crossings", daemon=True).start()
        try:
            alive = self._submit(lambda: _round_trip(device)).result(probe_seconds)
        except Late:
            alive = False
        if not alive:
            self.close()
            raise DeviceSilent(
                f"{device} did not give back what was copied to it: see `nvidia-smi -q` and the kernel log;"
                " in confidential mode set the GPUs ready (`nvidia-smi conf-compute -srs 1`)"
            )

    def to_device(self, tensor: "torch.Tensor", dtype: "torch.dtype | None" = None) -> "Future[torch.Tensor]":
        """Copy a tensor there, as `dtype`. Its memory must stay as it is until the result is there."""
        return self._submit(lambda: _copied(tensor, self.device, dtype))

    def to_host(self, tensor: "torch.Tensor") -> "Future[torch.Tensor]":
        """Copy a tensor back."""
        return self._submit(lambda: _copied(tensor, "cpu", None))

    def close(self) -> None:
        """Stop once what was asked for is done."""
        self._asked.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, call: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self._asked.put((future, call))
        return future

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            future, call = asked
            try:
                future.set_result(call())
            except BaseException as error:  # whatever it is, the one who asked gets it
                future.set_exception(error)


def _copied(tensor: "torch.Tensor", device: str, dtype: "torch.dtype | None") -> "torch.Tensor":
    import torch

    # In two steps: torch would convert on the host, and leave what it converted in ordinary memory there.
    done = tensor.to(device, copy=True).to(dtype or tensor.dtype)
    for each in (tensor, done):
        if each.is_cuda:
            torch.cuda.synchronize(each.device)
    return done


def _round_trip(device: str) -> bool:
    """Whether random bytes that are copied there come back."""
    import torch

    try:
        sent = torch.randint(0, 256, (PROBE_BYTES,), dtype=torch.uint8)
        return torch.equal(sent, _copied(_copied(sent, device, None), "cpu", None))
    except (
        RuntimeError,
        AssertionError,
    ):  # torch's words for a device that fails, or that it was not built for
        return False


def double_buffered(fill: "Callable[[int, int], Future[Any]]", count: int) -> list[Any]:
    """The results of `fill(item, buffer)` for every item, with buffers 0 and 1 in turn.

    `fill` may overwrite the buffer that it is given: the copy that last used it has finished.
    """
    futures: list[Future[Any]] = []
    for item in range(count):
        if item >= 2:
            futures[item - 2].result()
        futures.append(fill(item, item % 2))
    return [future.result() for future in futures]
