"""A blocking front over the async SDK: its event loop runs in a thread of its own."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from attestation import Policy, Verdict

from .receipts import Proof
from .sdk import Answer, AnswerStream, AsyncClient, Messages

T = TypeVar("T")


class Loop:
    """An event loop in a daemon thread, for callers that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="cloister", daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        """The thread: turns until it is stopped, ends what is under way, and leaves nothing open."""
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel_the_rest())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; interrupting the caller cancels it. RuntimeError once the loop is closed."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()  # nobody will await it
            raise
        try:
            return future.result()
        except BaseException:  # Ctrl-C too must stop what the loop is still doing
            future.cancel()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Generator[T]:
        """The items of `source`, one at a time; leaving early closes it."""
        try:
            while True:
                try:
                    item = self.run(_next(source))
                except _Exhausted:
                    return
                yield item
        finally:
            close = getattr(source, "aclose", None)
            if close is not None and not self._loop.is_closed():
                self.run(close())

    @property
    def is_own_thread(self) -> bool:
        """Whether the caller runs in this loop's thread."""
        return threading.current_thread() is self._thread

    def stop_after(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, then stop the thread. Returns at once."""
        self._loop.create_task(work).add_done_callback(lambda _: self._loop.stop())

    def close(self) -> None:
        """Stop the thread, which closes the loop."""
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _cancel_the_rest() -> None:
    """Cancel every other task of this loop and wait for them."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class Leavable(Protocol):
    """An answer that is being read."""

    async def aclose(self) -> None:
        """Leave early."""


class Ending:
    """Closes `client` and stops `loop` once nobody has `owner` any more, at exit at the latest, or when told.

    Answers that are still being read are left first.
    """

    def __init__(self, owner: object, client: AsyncClient, loop: Loop) -> None:
        self._answers: weakref.WeakSet[Leavable] = weakref.WeakSet()
        self._finalize = weakref.finalize(owner, _end, client, loop, self._answers)

    def begun(self, answer: Leavable) -> None:
        """An answer is being read."""
        self._answers.add(answer)

    def now(self) -> None:
        """Close now, once."""
        self._finalize()


def _end(client: AsyncClient, loop: Loop, answers: "weakref.WeakSet[Leavable]") -> None:
    async def leave_all() -> None:
        for answer in list(answers):
            await answer.aclose()
        await client.aclose()

    if loop.is_own_thread:  # the garbage collector may have found the owner there, where nothing may block
        loop.stop_after(leave_all())
        return
    loop.run(leave_all())
    loop.close()


class _Exhausted(Exception):
    pass


async def _next(source: AsyncIterator[T]) -> T:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _Exhausted from None


class BlockingStream(Iterator[str]):
    """`AnswerStream` for callers without an event loop."""

    def __init__(self, answer: AnswerStream, pieces: Generator[str], client: "Client") -> None:
        self._client = client  # which is closed when nobody has it
        self._answer = answer
        self._pieces = pieces

    @property
    def receipt(self) -> Proof | None:
        """The receipt, after the last piece, if it was asked for."""
        return self._answer.receipt

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        """Leave early: the worker is told to stop."""
        self._pieces.close()


class Client:
    """`AsyncClient` for code without an event loop; same arguments, same errors."""

    def __init__(self, url: str, policy: Policy, **options: Any) -> None:
        self._client = AsyncClient(url, policy, **options)
        self._loop = Loop()
        self._ending = Ending(self, self._client, self._loop)

    @property
    def verdict(self) -> Verdict | None:
        """The latest accepted verdict; None before the first use."""
        return self._client.verdict

    def attest(self) -> Verdict:
        """Attest now unless a verdict still holds. Raises attestation.Rejected and MalformedEvidence."""
        return self._loop.run(self._client.attest()).verdict

    def models(self) -> list[str]:
        """The names of what is loaded, the base model first."""
        return self._loop.run(self._client.models())

    def ask(
        self, messages: Messages, *, model: str | None = None, receipt: bool = False, **options: Any
    ) -> Answer:
        """The whole answer; see `AsyncClient.ask`."""
        return self._loop.run(self._client.ask(messages, model=model, receipt=receipt, **options))

    def stream(
        self, messages: Messages, *, model: str | None = None, receipt: bool = False, **options: Any
    ) -> "BlockingStream":
        """The answer piece by piece; see `AsyncClient.stream`."""
        answer = self._client.stream(messages, model=model, receipt=receipt, **options)
        self._ending.begun(answer)
        return BlockingStream(answer, self._loop.iterate(answer), self)

    def parse(self, messages: Messages, shape: type[T], *, model: str | None = None, **options: Any) -> T:
        """The answer as an object of `shape`; see `AsyncClient.parse`."""
        return self._loop.run(self._client.parse(messages, shape, model=model, **options))

    def embed(self, texts: str | Sequence[str], *, model: str | None = None) -> list[tuple[float, ...]]:
        """One vector for each text; see `AsyncClient.embed`."""
        return self._loop.run(self._client.embed(texts, model=model))

    def close(self) -> None:
        """Close the connections and stop the thread. Otherwise that is done when nobody has the client."""
        self._ending.now()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
