"""The embedded engine: one step loop (schedule, run, sample) over a transformers model's `forward`."""

import logging
from typing import Self

import torch

from ..files import ModelFiles
from .adapters import AdapterSet
from .forward import ForwardPass, make_arena
from .interface import (
    EngineError,
    EngineOptions,
    EngineStats,
    Event,
    GenerationRequest,
    InvalidRequest,
    ModelRefused,
    Request,
    TokenEvent,
    UnknownAdapter,
    UnknownEncoder,
)
from .loading import Loaded, load_model
from .plan import StepPlan
from .sampling import choose, draws
from .scheduler import Piece, Scheduler, Sequence

_log = logging.getLogger(__name__)


class EmbeddedEngine:
    """A transformers model behind the `Engine` protocol. One thread owns it."""

    def __init__(self, loaded: Loaded, options: EngineOptions) -> None:
        """Takes a model; its attention is replaced. Raises ModelRefused."""
        self._loaded = loaded  # its memory is what the tensors are views of
        model = loaded.model
        config = model.config.get_text_config()
        self._arena = make_arena(model, options)
        self._forward = ForwardPass(model, self._arena)
        self._adapters = AdapterSet(model, options.max_adapters)
        self._context_length: int = min(config.max_position_embeddings, self._arena.tokens)
        self._vocabulary: int = config.vocab_size
        self._scheduler = Scheduler(options, self._context_length)
        self._unreported: list[Event] = []
        self._steps = self._failed_steps = self._prompt_tokens = self._generated_tokens = 0

    @classmethod
    def load(cls, files: ModelFiles, options: EngineOptions) -> Self:
        """An engine over a model's files. Raises ModelRefused."""
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        return cls(load_model(files, dtype=options.dtype, device=options.device), options)

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def adapters(self) -> frozenset[str]:
        return self._adapters.names

    @property
    def encoders(self) -> frozenset[str]:
        return frozenset()

    @property
    def grammars(self) -> bool:
        return False

    @property
    def weights_memory(self) -> str:
        """Where the weights are: a kind of `memory.Kind`, or "device"."""
        return self._loaded.kind

    def prepare(self, request: GenerationRequest) -> None:
        if request.grammar is not None:
            raise InvalidRequest("this engine cannot hold an answer to a grammar")

    def submit(self, request: Request) -> None:
        if not isinstance(request, GenerationRequest):
            raise UnknownEncoder(f"no encoder named {request.encoder!r} is loaded")
        self.prepare(request)
        if request.adapter is not None and request.adapter not in self._adapters.names:
            raise UnknownAdapter(f"no adapter named {request.adapter!r} is loaded")
        if not all(0 <= token < self._vocabulary for token in request.prompt):
            raise InvalidRequest(f"a token id is outside the vocabulary of {self._vocabulary}")
        self._scheduler.add(request, draws(request.sampling.seed))

    def cancel(self, request_id: str) -> None:
        if self._release(request_id):
            self._unreported.append(TokenEvent(id=request_id, finish="cancelled"))

    def has_work(self) -> bool:
        return bool(self._unreported) or len(self._scheduler) > 0

    def step(self) -> list[Event]:
        events, self._unreported = self._unreported, []
        pieces = self._scheduler.schedule()
        if not pieces:
            return events
        self._steps += 1
        try:
            sequences, tokens = self._run(pieces)
        except Exception as error:  # whatever a model or its device raises ends this batch, not the engine
            return events + self._fail(pieces, error)
        for piece in pieces:
            piece.sequence.computed += piece.count
            if piece.start < len(piece.sequence.request.prompt):
                self._prompt_tokens += piece.count
        events += [self._advance(*pair) for pair in zip(sequences, tokens, strict=True)]
        return events

    def stats(self) -> EngineStats:
        return EngineStats(
            waiting=self._scheduler.waiting,
            running=self._scheduler.running,
            blocks_used=self._scheduler.blocks_used,
            blocks=self._scheduler.blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            failed_steps=self._failed_steps,
        )

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        self._adapters.load(name, files)

    def unload_adapter(self, name: str) -> None:
        if any(sequence.request.adapter == name for sequence in self._scheduler):
            raise EngineError(f"adapter {name!r} is in use: wait for its requests or cancel them")
        self._adapters.unload(name)

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        raise ModelRefused("this engine runs no encoders")

    def _run(self, pieces: list[Piece]) -> tuple[list[Sequence], list[int | None]]:
        plan = StepPlan(pieces, self._arena)
        logits = self._forward(plan, **self._adapters.routing(plan))
        rules = [sequence.request.sampling for sequence in plan.sampled]
        return plan.sampled, choose(logits, rules, [sequence.draw for sequence in plan.sampled])

    def _advance(self, sequence: Sequence, token: int | None) -> TokenEvent:
        request = sequence.request
        if token is None:
            self._release(request.id)
            return TokenEvent(
                id=request.id, finish="error", error="the model's logits are not finite numbers"
            )
        if token in request.eos:
            self._release(request.id)
            return TokenEvent(id=request.id, finish="stop")
        sequence.tokens.append(token)
        self._generated_tokens += 1
        if sequence.generated < request.max_tokens:
            return TokenEvent(id=request.id, token=token)
        self._release(request.id)
        return TokenEvent(id=request.id, token=token, finish="length")

    def _fail(self, pieces: list[Piece], error: Exception) -> list[Event]:
        self._failed_steps += 1
        # The type alone: a message may quote tensors, and the tokens in them are someone's secret.
        reason = f"the engine's step failed ({type(error).__name__})"
        _log.error("step of %d requests failed: %s", len(pieces), type(error).__name__)
        for piece in pieces:
            self._release(piece.sequence.request.id)
        return [TokenEvent(id=piece.sequence.request.id, finish="error", error=reason) for piece in pieces]

    def _release(self, request_id: str) -> bool:
        sequence = self._scheduler.remove(request_id)
        if sequence is None:
            return False
        self._arena.erase(sequence.blocks)
        return True
