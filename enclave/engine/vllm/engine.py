"""vLLM as an `Engine`: its own scheduler, paged memory, LoRA and masks; weights streamed by our loader.

What differs from the embedded engine: priorities are strict, without reserved shares; freed blocks are not
overwritten; a step that fails ends the engine, not one batch. docs/vllm.md lists what has been run.
"""

import os
from typing import Any, Self

from ...files import ModelFiles
from ..encoder import EncoderSet
from ..interface import (
    EmbeddingRequest,
    EngineError,
    EngineStats,
    Event,
    GenerationRequest,
    InvalidRequest,
    ModelRefused,
    Overloaded,
    PromptTooLong,
    Request,
    TokenEvent,
    UnknownAdapter,
)
from ..loading import check_files
from .feeding import Feeder
from .options import VllmOptions
from .places import MemoryPlace

_QUIET = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "CRITICAL",
}
"""The engine's core runs in this process; nothing is reported, fetched or logged.

As an error vLLM logs sampling parameters of the requests in a failing step: their grammars, their biases.
"""


class VllmEngine:
    """Made by `load`. Implements `Engine`; `close` frees what it holds."""

    def __init__(self, engine: Any, place: MemoryPlace, feeder: Feeder, options: VllmOptions) -> None:
        self._engine = engine
        self._place = place
        self._feeder = feeder
        self._options = options.engine
        self._vocabulary = int(engine.vllm_config.model_config.get_vocab_size())
        self._requests: dict[str, GenerationRequest] = {}
        self._pending: list[Event] = []
        self._lora: dict[str, Any] = {}
        self._numbers = 0
        self._steps = self._read = self._made = 0
        self._encoders = EncoderSet(options.engine)

    @classmethod
    def load(cls, files: ModelFiles, options: VllmOptions) -> Self:
        """The model in these files. Raises ModelRefused, FilesError."""
        check_files(files)
        place = MemoryPlace()
        os.environ.update(_QUIET, VLLM_CACHE_ROOT=str(place.path / "cache"))
        try:
            _check_device(options.engine.device)
        except BaseException:
            place.remove()
            raise
        from vllm.v1.engine.llm_engine import LLMEngine

        from .arguments import engine_args
        from .loader import SOURCES, register

        register()
        socket = place.path / "weights"
        feeder = Feeder(files, socket)
        SOURCES[str(socket)] = files
        try:
            place.put(files, [name for name in files.sizes if not name.endswith(".safetensors")])
            engine = LLMEngine.from_engine_args(engine_args(place.path, socket, options))
        except ModelRefused:
            place.remove()
            raise
        except Exception as error:  # vLLM raises whatever its parts raise
            place.remove()
            raise ModelRefused(f"vLLM does not run {files.label}: {error}") from error
        finally:
            del SOURCES[str(socket)]
            feeder.close()
        return cls(engine, place, feeder, options)

    @property
    def weights_memory(self) -> str:
        """Where the weights are: vLLM allocates, in this process or its children."""
        return "vLLM's"

    def erase(self) -> None:
        """Overwrite the base model's parameters with zeros. The engine is of no use afterwards.

        On a CPU vLLM has packed some of them into memory that cannot be reached: end the process too.
        """
        from .loader import overwrite

        self._engine.apply_model(overwrite)

    def close(self) -> None:
        """Stop vLLM and remove its small files."""
        self._engine.engine_core.shutdown()
        self._place.remove()

    @property
    def context_length(self) -> int:
        return int(self._engine.vllm_config.model_config.max_model_len)

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._lora)

    @property
    def encoders(self) -> frozenset[str]:
        return self._encoders.names

    @property
    def grammars(self) -> bool:
        return not self._engine.vllm_config.model_config.skip_tokenizer_init

    def prepare(self, request: GenerationRequest) -> None:
        import llguidance

        from .translation import lark_of

        words = llguidance.LLMatcher.validate_grammar(lark_of(request.grammar or ""))
        if words:
            raise InvalidRequest(f"the grammar cannot be followed: {words[:300]}")

    def submit(self, request: Request) -> None:
        if isinstance(request, EmbeddingRequest):
            self._encoders.check(request)
            self._pending += self._encoders.embed([request], [])
            return
        self._check(request)
        from vllm.exceptions import VLLMValidationError

        from .translation import RANKS, prompt_of, sampling_of

        try:
            self._engine.add_request(
                request.id,
                prompt_of(request),
                sampling_of(request),
                lora_request=self._lora[request.adapter] if request.adapter is not None else None,
                priority=RANKS[request.priority],
            )
        except (VLLMValidationError, ValueError) as error:
            raise InvalidRequest(f"vLLM refuses this request: {error}") from error
        self._requests[request.id] = request
        self._read += len(request.prompt)

    def _check(self, request: GenerationRequest) -> None:
        if request.id in self._requests:
            raise InvalidRequest("a request with this id is already here")
        if not all(0 <= token < self._vocabulary for token in request.prompt):
            raise InvalidRequest(f"a token id is outside the vocabulary of {self._vocabulary}")
        if request.adapter is not None and request.adapter not in self._lora:
            raise UnknownAdapter(f"no adapter named {request.adapter!r} is loaded")
        if len(request.prompt) + request.max_tokens > self.context_length:
            raise PromptTooLong(
                f"prompt and answer have {len(request.prompt) + request.max_tokens} tokens; "
                f"they share {self.context_length}"
            )
        if len(self._requests) >= self._options.max_rows + self._options.max_waiting:
            raise Overloaded("too many requests are waiting", 1.0)

    def cancel(self, request_id: str) -> None:
        if self._requests.pop(request_id, None) is not None:
            self._engine.abort_request([request_id])
            self._pending.append(TokenEvent(id=request_id, finish="cancelled"))

    def step(self) -> list[Event]:
        from .translation import events_of

        events, self._pending = self._pending, []
        if not self._engine.has_unfinished_requests():
            return events
        self._steps += 1
        for output in self._engine.step():
            request = self._requests.get(output.request_id)
            if request is None:
                continue  # cancelled meanwhile
            found = list(events_of(output, request))
            self._made += sum(event.token is not None for event in found)
            events += found
            if output.finished:
                del self._requests[request.id]
        return events

    def has_work(self) -> bool:
        return bool(self._pending) or self._engine.has_unfinished_requests()

    def stats(self) -> EngineStats:
        running = min(len(self._requests), self._options.max_rows)
        return EngineStats(
            waiting=len(self._requests) - running,
            running=running,
            blocks=self._options.kv_tokens // self._options.block_tokens,
            step_budget=self._options.step_tokens,
            steps=self._steps,
            prompt_tokens=self._read,
            generated_tokens=self._made,
            adapters=len(self._lora),
            adapters_resident=len(self._lora),
        )

    def load_adapter(self, name: str, files: ModelFiles) -> None:
        if name in self._lora:
            raise EngineError(f"an adapter named {name!r} is already loaded")
        if len(self._lora) >= self._options.max_adapters:
            raise EngineError(f"at most {self._options.max_adapters} adapters: unload one first")
        from vllm.lora.request import LoRARequest

        self._numbers += 1
        with MemoryPlace() as place:
            request = LoRARequest(name, self._numbers, str(place.put(files, files.sizes)))
            try:
                self._engine.add_lora(request)
            except Exception as error:  # vLLM raises whatever its parts raise
                raise ModelRefused(f"vLLM does not take adapter {files.label}: {error}") from error
        self._lora[name] = request

    def unload_adapter(self, name: str) -> None:
        if name not in self._lora:
            raise UnknownAdapter(f"no adapter named {name!r} is loaded")
        if any(request.adapter == name for request in self._requests.values()):
            raise EngineError(f"adapter {name!r} is in use")
        self._engine.remove_lora(self._lora.pop(name).lora_int_id)

    def load_encoder(self, name: str, files: ModelFiles) -> None:
        self._encoders.load(name, files)


def _check_device(device: str) -> None:
    """vLLM takes the device that it finds, whatever it is told: ModelRefused unless that is the one named.

    Else a GPU that nothing vouches for would compute where the workload says "cpu".
    """
    from vllm.platforms import current_platform

    # AMD's GPUs have the type "cuda" too; where vLLM knows no device it has no name.
    found = {str(getattr(current_platform, word, "")) for word in ("device_name", "device_type")}
    if device not in ("cpu", "cuda", "cuda:0") or found != {device.removesuffix(":0")}:
        names = " or ".join(sorted(found)) or "nothing"
        raise ModelRefused(
            f"vLLM would compute on {names}, not on {device}: install the build of vLLM that is for it, and"
            " let this machine have no other device (docs/vllm.md)"
        )
