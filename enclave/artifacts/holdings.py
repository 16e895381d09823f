"""What is loaded right now: as the workload says it, who may use it, and when it has to go."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace

from attestation import LoadedModel, Workload

from .shelf import Found

_SESSION = "gpu_session"


@dataclass(frozen=True, slots=True)
class Held:
    """One loaded thing."""

    found: Found
    adapter: bool
    not_after: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is held at one moment, and the session with the device, "" where there is none."""

    held: Mapping[str, Held]
    gpu_session: object


_OPENED: ContextVar[Snapshot | None] = ContextVar("held_when_opened", default=None)


def _identities(snapshot: Snapshot, names: Sequence[str]) -> list[LoadedModel | None]:
    found = [snapshot.held.get(name) for name in names]
    return [each.found.loaded if each else None for each in found]


class Holdings:
    """The loaded models and adapters. Safe to use from several threads."""

    def __init__(self, workload: Workload) -> None:
        """`workload` with its models and adapters left out."""
        self._bare = workload
        self._held: dict[str, Held] = {}
        self._bytes = workload.to_bytes()
        self._lock = threading.Lock()

    @property
    def workload(self) -> bytes:
        """W's document, of now."""
        return self._bytes

    @property
    def roots(self) -> Mapping[str, bytes]:
        """Roots by name."""
        return {name: held.found.root for name, held in self._held.items()}

    def add(self, found: Found, not_after: int | None, *, adapter: bool = False) -> None:
        """It is loaded, or is about to be."""
        with self._lock:
            self._held = self._held | {found.name: Held(found, adapter, not_after)}
            self._renew()

    def again(self, held: Held, not_after: int | None) -> bool:
        """It is loaded once more, until `not_after`; False, and no change, if it was removed meanwhile."""
        with self._lock:
            if self._held.get(held.found.name) is not held:
                return False
            self._held = self._held | {held.found.name: replace(held, not_after=not_after)}
            return True

    def remove(self, name: str) -> None:
        """It may not be used any more. Nothing happens for a name that is not held."""
        with self._lock:
            self._held = {key: held for key, held in self._held.items() if key != name}
            self._renew()

    def bind(self, gpu_session: str) -> None:
        """It is loaded under this session with the device; "" where there is none."""
        engine = {name: value for name, value in self._bare.engine.items() if name != _SESSION}
        with self._lock:
            self._bare = replace(self._bare, engine=engine | ({_SESSION: gpu_session} if gpu_session else {}))
            self._renew()

    def all(self) -> tuple[Held, ...]:
        """Everything held, in the order in which it was loaded."""
        return tuple(self._held.values())

    def get(self, name: str) -> Held | None:
        """What is held under `name`."""
        return self._held.get(name)

    def permits(self, name: str, tenant: str) -> bool:
        """Whether its owner lets `tenant` use what is held under `name`."""
        held = self._held.get(name)
        return held is not None and (held.found.tenants is None or tenant in held.found.tenants)

    def pin(self) -> None:
        """What is held now is what the request of this context may be answered by."""
        _OPENED.set(self._now())

    def unchanged(self, *names: str) -> Callable[[], bool]:
        """Whether under all `names`, and on the same session with the device, is still what was held when
        this context's request was opened.

        Asked later, from any thread: by root and owner, so that what was loaded anew from the same files
        counts as the same. Where nothing was pinned, what is held now is meant.
        """
        opened = _OPENED.get() or self._now()
        wanted = _identities(opened, names)

        def still() -> bool:
            now = self._now()
            return (
                None not in wanted
                and _identities(now, names) == wanted
                and now.gpu_session == opened.gpu_session
            )

        return still

    def expired(self, now: float) -> Iterator[Held]:
        """What may not stay."""
        for held in list(self._held.values()):
            if held.not_after is not None and now >= held.not_after:
                yield held

    def _now(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._held, self._bare.engine.get(_SESSION, ""))

    def _renew(self) -> None:
        self._bytes = replace(
            self._bare, models=self._list(adapter=False), adapters=self._list(adapter=True)
        ).to_bytes()

    def _list(self, *, adapter: bool) -> tuple[LoadedModel, ...]:
        return tuple(held.found.loaded for held in self._held.values() if held.adapter is adapter)
