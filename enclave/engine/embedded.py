"""The embedded engine: one step loop (schedule, run, sample) over a transformers model's `forward`."""

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import chain
from typing import Self

import torch

from ..files import FilesError, ModelFiles
from .adapters import AdapterSet
from .blocks import BlockPool
from .encoder import EncoderSet
from .forward import ForwardPass, make_arena
from .grammar import Grammars, Matcher, allowed
from .interface import (
    EmbeddingEvent,
    EngineError,
    EngineOptions,
    EngineStats,
    Event,
    GenerationRequest,
    InvalidRequest,
    ModelRefused,
    Overloaded,
    Priority,
    PromptTooLong,
    Request,
    TokenEvent,
    UnknownAdapter,
)
from .loading import Loaded, load_model
from .plan import StepPlan
from .sampling import Chosen, Rules, choose
from .scheduler import Scheduler
from .sequences import Piece, Sequence, Text

_log = logging.getLogger(__name__)
_COMPILE_WAIT = 0.01
_MAX_PREPARED = 1024


class EmbeddedEngine:
    """A transformers model behind the `Engine` protocol. One thread owns it, but for `prepare`."""

    def __init__(self, loaded: Loaded, options: EngineOptions, grammars: Grammars | None = None) -> None:
        """Takes a model; its attention is replaced. Raises ModelRefused."""
        self._loaded = loaded  # its memory is what the tensors are views of
        self._options = options
        model = loaded.model
        config = model.config.get_text_config()
        self._arena = make_arena(model, options)
        self._forward = ForwardPass(model, self._arena)
        self._adapters = AdapterSet(model, options)
        self._encoders = EncoderSet(options)
        self._grammars = grammars
        self._context_length: int = min(config.max_position_embeddings, self._arena.tokens)
        self._vocabulary: int = config.vocab_size
        self._pool = BlockPool(
            options.kv_tokens // options.block_tokens, options.block_tokens, self._arena.erase
        )
        self._scheduler = Scheduler(options, self._pool)
        self._unreported: list[Event] = []
        self._prepared: dict[str, Matcher] = {}
        self._compiling: dict[str, tuple[GenerationRequest, Future[Matcher]]] = {}
        self._steps = self._failed_steps = self._step_used = 0
        self._prompt_tokens = self._generated_tokens = self._embedded = 0

    @classmethod
    def load(cls, files: ModelFiles, options: EngineOptions) -> Self:
        """An engine over a model's files. Raises ModelRefused."""
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        loaded = load_model(files, dtype=options.dtype, device=options.device)
        return cls(loaded, options, _grammars(files, loaded.model.config.get_text_config().vocab_size))

    @property
    def context_length(self) -> int:
        return self._context_length

    @property
    def adapters(self) -> frozenset[str]:
        return self._adapters.names

    @property
    def encoders(self) -> frozenset[str]:
        return self._encoders.names

    @property
    def grammars(self) -> bool:
        return self._grammars is not None

    @property
    def weights_memory(self) -> str:
        """Where the weights are: a kind of `memory.Kind`, or "device"."""
        return self._loaded.kind

    def prepare(self, request: GenerationRequest) -> None:
        if request.grammar is None:
            return
        matcher = self._able().compile(request.grammar, request.eos)
        while len(self._prepared) >= _MAX_PREPARED:
            self._prepared.pop(next(iter(self._prepared)), None)
        self._prepared[request.id] = matcher

    def submit(self, request: Request) -> None:
        matcher = self._prepared.pop(request.id, None)
        if request.id in self._compiling:
            raise InvalidRequest("a request with this id is already here")
        if not isinstance(request, GenerationRequest):
            self._encoders.check(request)
            self._scheduler.check(request)
            self._scheduler.add(request)
            return
        self._check(request)
        if request.grammar is None or matcher is not None:
            self._add(request, matcher)
        elif len(self._compiling) >= self._options.max_waiting:
            raise Overloaded(f"{len(self._compiling)} grammars are being compiled: try again later")
        else:
            self._compiling[request.id] = (request, self._able().start(request.grammar, request.eos))

    def cancel(self, request_id: str) -> None:
        compiling = self._compiling.pop(request_id, None)
        if compiling is not None:
            compiling[1].cancel()
        item = self._release(request_id)
        if isinstance(item, Text):
            self._unreported.append(EmbeddingEvent(id=request_id, error="cancelled"))
        elif compiling is not None or item is not None:
            self._unreported.append(TokenEvent(id=request_id, finish="cancelled"))

    def has_work(self) -> bool:
        return bool(self._unreported or self._compiling) or len(self._scheduler) > 0

    def step(self) -> list[Event]:
        self._take_compiled()
        events, self._unreported = self._unreported, []
        batch = self._scheduler.schedule()
        self._step_used = batch.tokens
        if not self._step_used:
            return events
        self._steps += 1
        failures: list[Exception] = []
        if batch.pieces:
            events += self._generate(batch.pieces, failures)
        if batch.texts:
            found = self._encoders.embed([text.request for text in batch.texts], failures)
            for event in found:
                self._release(event.id)
            self._scheduler.ended(len(found))
            self._embedded += len(found)
            events += found
        if failures:
            self._failed_steps += 1
            _log.error("a step of %d tokens failed: %s", batch.tokens, type(failures[0]).__name__)
        return events

    def stats(self) -> EngineStats:
        scheduler, pool = self._scheduler, self._pool
        waiting = {priority: scheduler.waiting(priority) for priority in Priority}
        return EngineStats(
            waiting=sum(waiting.values()) + len(self._compiling),
            waiting_by_priority=waiting,
            running=scheduler.running,
            blocks=pool.count,
            blocks_used=pool.used,
            blocks_cached=pool.cached,
            step_budget=self._options.step_tokens,
            step_used=self._step_used,
            steps=self._steps,
            failed_steps=self._failed_steps,
            preemptions=scheduler.preemptions,
            prompt_tokens=self._prompt_tokens,
            prefix_tokens=scheduler.spared,
            generated_tokens=self._generated_tokens,
            embeddings=self._embedded,
            adapters=len(self._adapters.names),
            adapters_resident=self._adapters.resident,
        )

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        self._adapters.load(name, files)

    def unload_adapter(self, name: str) -> None:
        requests = chain((item.request for item in self._scheduler), (r for r, _ in self._compiling.values()))
        if any(isinstance(request, GenerationRequest) and request.adapter == name for request in requests):
            raise EngineError(f"adapter {name!r} is in use: wait for its requests or cancel them")
        self._adapters.unload(name)
        self._pool.forget_cached()  # another adapter of this name must not find blocks that this one read

    def erase(self) -> None:
        """Overwrite weights, adapters, encoders and key-value memory. The engine is of no use afterwards."""
        self._loaded.erase()
        self._adapters.erase()
        self._encoders.erase()
        self._arena.erase(range(1 + self._pool.count))

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        self._encoders.load(name, files)

    def _able(self) -> Grammars:
        if self._grammars is None:
            raise InvalidRequest("this model's tokenizer cannot hold an answer to a grammar")
        return self._grammars

    def _check(self, request: GenerationRequest) -> None:
        if request.adapter is not None and request.adapter not in self._adapters.names:
            raise UnknownAdapter(f"no adapter named {request.adapter!r} is loaded")
        named = (request.prompt, [token for token, _ in request.sampling.logit_bias])
        if any(ids and not (min(ids) >= 0 and max(ids) < self._vocabulary) for ids in named):
            raise InvalidRequest(f"a token id is outside the vocabulary of {self._vocabulary}")
        if len(request.prompt) + request.max_tokens > self._context_length:
            raise PromptTooLong(
                f"{len(request.prompt)} prompt tokens and {request.max_tokens} answer tokens exceed "
                f"the context of {self._context_length}: shorten the prompt or lower max_tokens"
            )
        self._scheduler.check(request)

    def _add(self, request: GenerationRequest, matcher: Matcher | None) -> None:
        rules = Rules(request, self._vocabulary, self._arena.device)
        rules.matcher = matcher
        self._scheduler.add(request, rules)

    def _take_compiled(self) -> None:
        """Queue what has been compiled; with nothing else to do, wait a moment for it."""
        for request, future in list(self._compiling.values()):
            if not len(self._scheduler) and not self._unreported:
                _wait(future)
            if not future.done():
                continue
            del self._compiling[request.id]
            try:
                self._add(request, future.result())
            except EngineError as error:
                self._unreported.append(TokenEvent(id=request.id, finish="error", error=str(error)))

    def _generate(self, pieces: list[Piece], failures: list[Exception]) -> list[Event]:
        """Run the pieces; if that fails, each half by itself, down to the one that cannot be read."""
        try:
            sequences, chosen = self._run(pieces)
        except Exception as error:  # whatever a model or its device raises ends the guilty, not the engine
            failures.append(error)
            if len(pieces) > 1:
                half = len(pieces) // 2
                return self._generate(pieces[:half], failures) + self._generate(pieces[half:], failures)
            piece = pieces[0]
            if piece.count > 1:
                return self._generate([Piece(piece.sequence, piece.start, piece.count // 2)], failures)
            # The type alone: a message may quote tensors, and the tokens in them are someone's secret.
            return [self._end_in_error(piece.sequence, f"the engine's step failed ({type(error).__name__})")]
        self._scheduler.advance(pieces)
        for piece in pieces:
            if piece.start < len(piece.sequence.request.prompt):
                self._prompt_tokens += piece.count
        return [event for pair in zip(sequences, chosen, strict=True) for event in self._advance(*pair)]

    def _run(self, pieces: list[Piece]) -> tuple[list[Sequence], list[Chosen | None]]:
        plan = StepPlan(pieces, self._arena)
        rules: list[Rules] = [sequence.rules for sequence in plan.sampled]
        matchers = [rule.matcher for rule in rules]
        masks = self._grammars.begin_masks(matchers) if self._grammars and any(matchers) else None
        with self._adapters.routed(plan):
            logits = self._forward(plan)
        mask = None if masks is None else torch.from_numpy(allowed(masks.result(), self._vocabulary))
        return plan.sampled, choose(logits, rules, mask)

    def _advance(self, sequence: Sequence, chosen: Chosen | None) -> Iterable[Event]:
        request, rules = sequence.request, sequence.rules
        if chosen is None:
            return (self._end_in_error(sequence, "the model's logits are not finite numbers"),)
        if chosen.token in request.eos:
            self._end(sequence)
            return (TokenEvent(id=request.id, finish="stop"),)
        sequence.tokens.append(chosen.token)
        rules.note(chosen.token)
        self._generated_tokens += 1
        try:
            complete = rules.matcher is not None and rules.matcher.accept(chosen.token)
        except InvalidRequest as error:
            return (self._end_in_error(sequence, str(error)),)
        last = not complete and sequence.generated == request.max_tokens
        event = TokenEvent(
            id=request.id,
            token=chosen.token,
            finish="length" if last else None,
            logprob=chosen.logprob,
            top=chosen.top,
        )
        if last or complete:
            self._end(sequence)
        return (event, TokenEvent(id=request.id, finish="stop")) if complete else (event,)

    def _end_in_error(self, sequence: Sequence, reason: str) -> TokenEvent:
        self._end(sequence)
        return TokenEvent(id=sequence.request.id, finish="error", error=reason)

    def _end(self, sequence: Sequence) -> None:
        self._release(sequence.request.id)
        self._scheduler.ended(1)

    def _release(self, request_id: str) -> Sequence | Text | None:
        item = self._scheduler.remove(request_id)
        if isinstance(item, Sequence):
            item.rules.erase()
        return item


def _grammars(files: ModelFiles, vocabulary: int) -> Grammars | None:
    """None where there is no tokenizer.json that llguidance understands."""
    try:
        return Grammars(files.read("tokenizer.json"), vocabulary)
    except (FilesError, ModelRefused) as error:
        _log.info("no grammars: %s", error)
        return None


def _wait(future: "Future[Matcher]") -> None:
    try:
        future.exception(_COMPILE_WAIT)
    except TimeoutError:
        return
