"""What every engine takes and returns: token ids, never text. Imports no torch.

An engine belongs to one thread (see `runner.EngineRunner`): nothing here is safe to call from two at once.

    EngineError            the engine could not do it
    |- Overloaded          too much is waiting already: try again after `retry_after` seconds
    |- PromptTooLong       prompt and answer can never fit
    |- UnknownAdapter      no adapter of that name is loaded
    |- UnknownEncoder      no encoder of that name is loaded
    |- InvalidRequest      token ids outside the vocabulary, an id in use, a grammar that cannot be followed
    |- DeviceLost          the device is gone or not ready: try again when the next one was attested
    |- ModelRefused        the files are not a model or an adapter that this engine will run
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from ..files import ModelFiles

Finish = Literal["stop", "length", "cancelled", "error"]
MAX_TOP_LOGPROBS = 20
MAX_BIASED_TOKENS = 1024


class Priority(StrEnum):
    """Who goes first when not all can run. Premium has a reserved share; nobody starves."""

    PREMIUM = "premium"
    STANDARD = "standard"
    BASIC = "basic"


class EngineError(Exception):
    """The engine could not do what was asked."""


class Overloaded(EngineError):
    """Too much is waiting: nothing was started. In `retry_after` seconds, an estimate, it may succeed."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeviceLost(EngineError):
    """The device has gone, was restarted, or does not answer: it is being attested anew; ask again later."""


class PromptTooLong(EngineError):
    """Prompt and requested answer exceed the context or the key-value memory: it can never fit."""


class UnknownAdapter(EngineError):
    """The request names an adapter that is not loaded."""


class Swapped(EngineError):
    """What a request was opened for is not what is loaded under that name when it reaches the engine."""


class UnknownEncoder(EngineError):
    """The request names an encoder that is not loaded."""


class InvalidRequest(EngineError):
    """A token id is outside the vocabulary, the id is in use, or the grammar cannot be followed."""


class ModelRefused(EngineError):
    """The files are not a model or adapter that this engine will run; the message names the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy, `top_k` 0 is off, `seed` None is random.

    The penalties (-2 to 2) lower the logits of tokens in the answer so far, by how often and by whether they
    occur; `logit_bias` adds -100 to 100 to the logits of the token ids it names. OpenAI's definitions.
    Raises ValueError for anything outside its range, NaN and infinity included.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and 0.0 <= self.temperature <= 2.0):
            raise ValueError("temperature must be between 0 and 2")
        if not (math.isfinite(self.top_p) and 0.0 < self.top_p <= 1.0):
            raise ValueError("top_p must be above 0 and at most 1")
        if not _is_int(self.top_k) or not 0 <= self.top_k < 2**31:
            raise ValueError("top_k must be a whole number, 0 (off) or more")
        if self.seed is not None and not (_is_int(self.seed) and -(2**63) <= self.seed < 2**63):
            raise ValueError("seed must be a 64-bit whole number")
        for name in ("frequency_penalty", "presence_penalty"):
            if not -2.0 <= getattr(self, name) <= 2.0:  # false for NaN
                raise ValueError(f"{name} must be between -2 and 2")
        if len(self.logit_bias) > MAX_BIASED_TOKENS:
            raise ValueError(f"logit_bias names more than {MAX_BIASED_TOKENS} tokens")
        if not all(_is_int(token) and -100.0 <= bias <= 100.0 for token, bias in self.logit_bias):
            raise ValueError("logit_bias maps token ids to numbers between -100 and 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt. `prompt` holds content and is kept out of `repr`. Raises ValueError if empty.

    `share` is who may share prefix blocks with it: requests with the same 32 bytes, nobody if None.
    `grammar` is what the answer must match, as llguidance spells grammars (JSON); `logprobs` asks for the
    chosen token's log-probability and those of so many likeliest tokens.
    """

    id: str
    prompt: tuple[int, ...] = field(repr=False)
    sampling: Sampling
    max_tokens: int
    eos: frozenset[int]
    adapter: str | None = None
    tenant: str = field(default="", repr=False)
    priority: Priority = Priority.STANDARD
    share: bytes | None = field(default=None, repr=False)
    grammar: str | None = field(default=None, repr=False)
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("the prompt has no tokens")
        if not _is_int(self.max_tokens) or self.max_tokens < 1:
            raise ValueError("max_tokens must be 1 or more")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise ValueError(f"logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
        if self.share is not None and len(self.share) != 32:
            raise ValueError("share must be 32 bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One text for the encoder named `encoder`. Answered by one EmbeddingEvent. ValueError if empty."""

    id: str
    prompt: tuple[int, ...] = field(repr=False)
    encoder: str
    tenant: str = field(default="", repr=False)
    priority: Priority = Priority.STANDARD

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("the text has no tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One step of one request. `token` holds content and is kept out of `repr`.

    `finish` is None until the last event. "length" carries the last token; "stop" (an end token was
    chosen), "cancelled" and "error" carry none: an end token is never reported. `logprob` and `top` (token
    ids with theirs, likeliest first) are natural logarithms, where the request asked for them; they are of
    the model's own distribution, before temperature, penalties, bias and grammar.
    """

    id: str
    token: int | None = field(default=None, repr=False)
    finish: Finish | None = None
    error: str | None = None
    logprob: float | None = field(default=None, repr=False)
    top: tuple[tuple[int, float], ...] = field(default=(), repr=False)

    @property
    def last(self) -> bool:
        """Whether the request has ended."""
        return self.finish is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingEvent:
    """The answer to an EmbeddingRequest: `vector` (of length 1) or `error`."""

    id: str
    vector: tuple[float, ...] | None = field(default=None, repr=False)
    error: str | None = None

    @property
    def last(self) -> bool:
        """Whether the request has ended: it has."""
        return True


Request = GenerationRequest | EmbeddingRequest
Event = TokenEvent | EmbeddingEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Counts without content. Totals run since the engine was loaded.

    Blocks are key-value memory: `blocks_used` belong to requests, `blocks_cached` are kept for the next
    request of the same share and taken back when needed. `step_used` of `step_budget` tokens were read in the
    last step. What tells of tokens or of cache hits (`prompt_tokens`, `generated_tokens`, `prefix_tokens`,
    `blocks_cached`) is for the inside: the operator must not see it.
    """

    waiting: int = 0
    waiting_by_priority: Mapping[Priority, int] = field(default_factory=dict)
    running: int = 0
    blocks: int = 0
    blocks_used: int = 0
    blocks_cached: int = 0
    step_budget: int = 0
    step_used: int = 0
    steps: int = 0
    failed_steps: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    prefix_tokens: int = 0
    generated_tokens: int = 0
    embeddings: int = 0
    adapters: int = 0
    adapters_resident: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Bounds of the engine. Raises ValueError if they contradict each other.

    `kv_tokens` bounds key-value memory, in tokens over all requests; `step_tokens` is the budget of one
    step and exceeds `max_rows`, so that a prompt always makes progress beside the decoding rows; of both,
    premium requests have `premium_share` percent to themselves while they need it. `max_adapters` may be
    loaded, `resident_adapters` of them lie on the device at a time, of rank up to `max_rank`.
    `dtype` is what the model computes in; `threads` None leaves torch's setting alone. `step_seconds` is how
    long a device that is a process of its own may take for one step before it is given up. `kind` is whose
    engine it is: ours, or vLLM, which has to be installed.
    """

    kind: Literal["embedded", "vllm"] = "embedded"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    kv_tokens: int = 32_768
    block_tokens: int = 16
    step_tokens: int = 512
    max_rows: int = 64
    max_waiting: int = 256
    premium_share: int = 25
    max_adapters: int = 256
    resident_adapters: int = 32
    max_rank: int = 64
    threads: int | None = None
    step_seconds: int = 30

    def __post_init__(self) -> None:
        if self.kind not in ("embedded", "vllm"):
            raise ValueError("kind must be embedded or vllm")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError("dtype must be float32, bfloat16 or float16")
        for name in ("kv_tokens", "block_tokens", "step_tokens", "max_rows", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        if self.step_tokens <= self.max_rows:
            raise ValueError("step_tokens must exceed max_rows, or prompts would never be read")
        if not 1 <= self.premium_share <= 90:
            raise ValueError("premium_share must be between 1 and 90 percent")
        if self.kv_tokens < self.block_tokens:
            raise ValueError("kv_tokens must hold at least one block")
        if self.max_adapters < 0 or self.resident_adapters < 1 or self.max_rank < 1:
            raise ValueError("max_adapters must be 0 or more, resident_adapters and max_rank 1 or more")
        if self.threads is not None and self.threads < 1:
            raise ValueError("threads must be 1 or more")
        if not 1 <= self.step_seconds <= 3600:
            raise ValueError("step_seconds must be between 1 and 3600")


class Engine(Protocol):
    """Load, submit, cancel, step, adapters, encoders, stats. One thread owns it, but for `prepare`."""

    @property
    def context_length(self) -> int:
        """Most tokens that prompt and answer of one request may have together."""

    @property
    def adapters(self) -> frozenset[str]:
        """Names of the adapters that are loaded."""

    @property
    def encoders(self) -> frozenset[str]:
        """Names of the encoders that are loaded."""

    @property
    def grammars(self) -> bool:
        """Whether it can hold an answer to a grammar. If not, a request with one is refused."""

    def prepare(self, request: GenerationRequest) -> None:
        """Do what may take long before `submit`: compile the grammar. Safe to call from any thread.

        Raises InvalidRequest for a grammar that cannot be followed. Without it the engine does the same work
        after `submit`, and a bad grammar ends the request with an error event.
        """

    def submit(self, request: Request) -> None:
        """Queue it. Raises Overloaded, PromptTooLong, UnknownAdapter, UnknownEncoder, InvalidRequest."""

    def cancel(self, request_id: str) -> None:
        """Drop a request and free its memory at once; the next step reports it. Unknown ids are ignored."""

    def step(self) -> list[Event]:
        """Run one batch and return what came of it, in order. A failed batch ends its own requests only."""

    def has_work(self) -> bool:
        """Whether `step` has anything to do or to report."""

    def stats(self) -> EngineStats:
        """Counts without content."""

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        """Make a LoRA adapter available. Raises ModelRefused, EngineError if the name is taken."""

    def unload_adapter(self, name: str) -> None:
        """Remove an adapter. Raises UnknownAdapter, EngineError while a request uses it."""

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        """Make a sentence encoder available. Raises ModelRefused, EngineError if the name is taken."""


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
