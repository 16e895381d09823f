"""Loads what was found into an engine, keeps the books of it, and lets go of what has expired."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from sealing.artifact import Kind

from ..engine.interface import Engine, EngineError
from ..files import FilesError, ModelFiles
from ..text import TextModel
from .holdings import Holdings
from .shelf import Found, Opened, Place, Shelf, find

if TYPE_CHECKING:
    from ..configuration import Configuration
    from ..engine.runner import EngineRunner

log = logging.getLogger(__name__)

DRAIN_SECONDS = 60.0
"""How long requests under way may keep a base model that has expired."""


class ErasableEngine(Engine, Protocol):
    """An engine whose weights can be overwritten."""

    def erase(self) -> None:
        """Overwrite the base model's weights. The engine is of no use afterwards."""


E = TypeVar("E", bound=ErasableEngine)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a worker is to load."""

    model: Found
    encoders: tuple[Found, ...]
    adapters: tuple[Found, ...]

    @classmethod
    def of(cls, configuration: "Configuration") -> "Findings":
        """What the configuration names. Raises FilesError for what is not there or not what it should be."""
        adapters = sorted(configuration.adapters.items())
        encoders = sorted(configuration.encoders.items())
        return cls(
            find(configuration.name, configuration.model, Kind.MODEL),
            tuple(find(name, place, Kind.MODEL) for name, place in encoders),
            tuple(find(name, place, Kind.ADAPTER) for name, place in adapters),
        )

    def listed_in(self, holdings: Holdings) -> Holdings:
        """`holdings` as they will be when all of it is loaded."""
        for found in (self.model, *self.encoders):
            holdings.add(found, None)
        for found in self.adapters:
            holdings.add(found, None, adapter=True)
        return holdings

    def __iter__(self) -> Iterator[Found]:
        yield from (self.model, *self.encoders, *self.adapters)


class Library:
    """The models and adapters of one worker. Keys live as long as loading takes."""

    def __init__(
        self, findings: Findings, shelf: Shelf, holdings: Holdings, clock: Callable[[], float] = time.time
    ) -> None:
        self.holdings = holdings
        self.texts: dict[str, TextModel] = {}
        self._base = findings.model
        self._findings = findings
        self._shelf = shelf
        self._clock = clock
        self._leaving: set[str] = set()
        self._changing = asyncio.Lock()

    def load(self, make: Callable[[ModelFiles], E]) -> E:
        """The engine that `make` makes of the base model, with encoders and adapters. Blocks.

        Raises FilesError, release.ReleaseError, EngineError; what was loaded is erased and not listed then.
        """
        engine: E | None = None
        try:
            with self._opened(self._base) as files:
                self.texts[self._base.name] = TextModel(files)
                engine = make(files)
            for found in self._findings.encoders:
                with self._opened(found) as files:
                    engine.load_encoder(found.name, files)
                    self.texts[found.name] = TextModel(files)
            for found in self._findings.adapters:
                with self._opened(found, adapter=True) as files:
                    engine.load_adapter(found.name, files)
        except BaseException:
            self._forget(engine)
            raise
        return engine

    def restore(self, engine: E, make: Callable[[ModelFiles], E]) -> None:
        """Load what is held once more: into a device that was restarted. Blocks; raises as `load`.

        Keys are released anew, since none was kept.
        """
        for held in self.holdings.all():
            opened = self._shelf.open(held.found, self._base_root() if held.adapter else None)
            with opened as files:
                if not self.holdings.again(held, opened.not_after):
                    continue  # its owner had it unloaded meanwhile
                if held.found.name == self._base.name:
                    make(files)
                elif held.adapter:
                    engine.load_adapter(held.found.name, files)
                else:
                    engine.load_encoder(held.found.name, files)

    async def add_adapter(self, runner: "EngineRunner", name: str, found: Found) -> None:
        """Load an adapter while serving. Raises FilesError, release.ReleaseError, EngineError."""
        async with self._changing:
            if self.holdings.get(name) is not None or name in self._leaving:
                raise EngineError(f"something named {name!r} is loaded already: unload it first")
            opened = await asyncio.to_thread(self._shelf.open, found, self._base_root())
            with opened as files:
                self.holdings.add(found, opened.not_after, adapter=True)
                try:
                    await runner.load_adapter(name, files)
                except BaseException:
                    self.holdings.remove(name)
                    raise
        log.info("adapter %s is loaded, root %s", name, found.root.hex())

    async def remove_adapter(self, runner: "EngineRunner", name: str) -> None:
        """No request may use it from now on; its weights go when the last that does has ended."""
        self.holdings.remove(name)
        self._leaving.add(name)
        await self._let_go(runner, name)

    async def maintain(self, runner: "EngineRunner", engine: ErasableEngine) -> None:
        """Unload what has expired, and what could not go before."""
        for name in list(self._leaving):
            await self._let_go(runner, name)
        for held in list(self.holdings.expired(self._clock())):
            name = held.found.name
            log.info("the key of %s has expired: unloading", name)
            if held.adapter:
                await self.remove_adapter(runner, name)
            else:
                await self._end(runner, engine)
                return

    async def _let_go(self, runner: "EngineRunner", name: str) -> None:
        try:
            await runner.unload_adapter(name)
        except EngineError as error:
            if runner.failure is None and name in runner.adapters:
                log.info("adapter %s is still in use: %s", name, error)
                return
        self._leaving.discard(name)
        log.info("adapter %s is unloaded", name)

    async def _end(self, runner: "EngineRunner", engine: ErasableEngine) -> None:
        """The base model goes, and with it everything that runs on it."""
        for held in list(self.holdings.roots):
            self.holdings.remove(held)
        deadline = time.monotonic() + DRAIN_SECONDS
        while runner.stats().running + runner.stats().waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        await asyncio.to_thread(runner.close)
        await asyncio.to_thread(engine.erase)
        log.info("the base model is unloaded and erased")

    def _forget(self, engine: ErasableEngine | None) -> None:
        """Nothing half-loaded stays."""
        self.texts.clear()
        for name in self.holdings.roots:
            self.holdings.remove(name)
        if engine is not None:
            engine.erase()

    def _opened(self, found: Found, *, adapter: bool = False) -> Opened:
        opened = self._shelf.open(found, self._base_root() if adapter else None)
        if found.signed is not None:
            manifest = found.signed.manifest
            owner = manifest.owner.hash.hex()[:16]
            log.info("%s: version %d, sealed by owner %s..., released", found.name, manifest.version, owner)
        self.holdings.add(found, opened.not_after, adapter=adapter)
        return opened

    def _base_root(self) -> bytes | None:
        return self._base.root if self.holdings.get(self._base.name) else None


def find_adapter(name: str, place: Place) -> Found:
    """An adapter to be loaded while serving. Raises FilesError; plain directories are not taken."""
    found = find(name, place, Kind.ADAPTER)
    if found.signed is None:
        raise FilesError(f"{place} is not sealed: only an owner's sealed adapter is loaded while serving")
    return found
