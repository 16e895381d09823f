"""The device's side of a session: obeys the worker's commands with an engine, answers SPDM beside them."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from enclave.engine.choosing import LoadedEngine
from enclave.engine.interface import EngineError, EngineOptions, ModelRefused
from enclave.files import FilesError, ModelFiles
from enclave.gpu.link import Kind, Link, LinkBroken, LinkTimeout, Reason
from enclave.memory import MemoryUnavailable

from . import messages
from .codec import MessageError
from .files import LinkedFiles
from .messages import (
    Cancel,
    Command,
    Done,
    Embed,
    Erase,
    Failed,
    GetStats,
    LoadAdapter,
    Loaded,
    LoadEncoder,
    LoadModel,
    Prepare,
    Reply,
    Stats,
    Step,
    Submit,
    UnloadAdapter,
)

_log = logging.getLogger(__name__)
IDLE: Final = 5.0


Loader = Callable[[ModelFiles, EngineOptions], LoadedEngine]


class EngineServer:
    """One session's commands. `respond` answers SPDM packets; `load` makes the engine."""

    def __init__(self, link: Link, respond: Callable[[bytes], bytes], load: Loader) -> None:
        self._link = link
        self._respond = respond
        self._load = load
        self._engine: LoadedEngine | None = None

    def run(self) -> None:
        """Serve until the session ends. Raises LinkBroken."""
        while True:
            try:
                kind, data = self._link.receive(timeout=IDLE)
            except LinkTimeout:
                continue
            if kind is Kind.SPDM:
                self._link.send_spdm(self._respond(data))
            else:
                self._link.send(messages.encode(self._reply(data)))

    def _answer_spdm(self) -> None:
        """While files are loaded: answer what SPDM is waiting. Raises LinkBroken for anything else."""
        while True:
            try:
                kind, data = self._link.receive(timeout=0.0)
            except LinkTimeout:
                return
            if kind is not Kind.SPDM:
                raise LinkBroken(Reason.PROTOCOL, "a command while another is under way")
            self._link.send_spdm(self._respond(data))

    def _files(self, label: str, sizes: Mapping[str, int]) -> LinkedFiles:
        return LinkedFiles(self._link, label, sizes, self._answer_spdm)

    def _reply(self, data: bytes) -> Reply:
        try:
            return self._obey(messages.decode_command(data))
        except MessageError as error:
            return Failed("EngineError", f"the device did not understand: {error}")
        except (EngineError, FilesError) as error:
            return Failed(type(error).__name__, str(error), getattr(error, "retry_after", None))
        except MemoryUnavailable as error:
            return Failed("ModelRefused", f"the device has no memory for it: {error}")

    def _obey(self, command: Command) -> Reply:
        match command:
            case Step():  # it was asked for before the last request ended, if there is nothing to do
                return messages.pack_events(self._running.step() if self._running.has_work() else [])
            case Submit(request) | Embed(request):
                self._running.submit(request)
            case Cancel(number):
                self._running.cancel(str(number))
            case GetStats():
                return Stats(self._running.stats())
            case Erase():
                self._running.erase()
                self._engine = None
            case Prepare(request):
                self._running.prepare(request)
            case _:
                return self._change(command)
        return Done()

    def _change(self, command: Command) -> Reply:
        """Commands that alter what is loaded."""
        match command:
            case LoadModel(label, sizes, options):
                if self._engine is not None:
                    raise EngineError("a model is loaded already")
                self._engine = self._load(self._files(label, sizes), options)
                _log.info("weights are in %s memory", self._engine.weights_memory)
            case LoadAdapter(name, label, sizes):
                self._running.load_adapter(name, self._files(label, sizes))
            case LoadEncoder(name, label, sizes):
                self._running.load_encoder(name, self._files(label, sizes))
            case UnloadAdapter(name):
                self._running.unload_adapter(name)
        return self._loaded()

    @property
    def _running(self) -> LoadedEngine:
        if self._engine is None:
            raise ModelRefused("no model is loaded")
        return self._engine

    def _loaded(self) -> Loaded:
        engine = self._running
        return Loaded(
            context_length=engine.context_length,
            adapters=engine.adapters,
            encoders=engine.encoders,
            grammars=engine.grammars,
            weights_memory=str(engine.weights_memory),
        )
