"""Sentence encoders: texts in, unit vectors out.

A directory as sentence-transformers saves it: a BERT-like model, mean pooling over the text's tokens, the
vector scaled to length 1. What its modules.json asks for beyond that is refused.
"""

import inspect
from collections.abc import Iterator
from collections.abc import Sequence as Texts
from typing import Any

import torch
from transformers import MODEL_MAPPING

from ..files import ModelFiles
from .interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineError,
    EngineOptions,
    InvalidRequest,
    ModelRefused,
    PromptTooLong,
    UnknownEncoder,
)
from .loading import Loaded, build, check_files, read_config, read_json

_POOLING = "1_Pooling/config.json"
_MODULES = ("Transformer", "Pooling", "Normalize")
# RoBERTa counts positions from the padding token's id on, so its last ones are out of reach.
_SHIFTED = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


class EncoderSet:
    """Encoders by name."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._encoders: dict[str, Encoder] = {}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._encoders)

    def load(self, name: str, files: ModelFiles) -> None:
        """Load an encoder under `name`. Raises ModelRefused, EngineError for a name in use."""
        if name in self._encoders:
            raise EngineError(f"an encoder named {name!r} is loaded already")
        self._encoders[name] = Encoder.load(files, self._options)

    def erase(self) -> None:
        """Overwrite every encoder's weights."""
        for encoder in self._encoders.values():
            encoder.erase()

    def check(self, request: EmbeddingRequest) -> None:
        """Raise UnknownEncoder, PromptTooLong or InvalidRequest for a text that cannot be embedded."""
        encoder = self._encoders.get(request.encoder)
        if encoder is None:
            raise UnknownEncoder(f"no encoder named {request.encoder!r} is loaded")
        if len(request.prompt) > encoder.context_length:
            raise PromptTooLong(
                f"the text has {len(request.prompt)} tokens, the encoder takes {encoder.context_length}"
            )
        if not all(0 <= token < encoder.vocabulary for token in request.prompt):
            raise InvalidRequest(f"a token id is outside the vocabulary of {encoder.vocabulary}")

    def embed(self, requests: Texts[EmbeddingRequest], failures: list[Exception]) -> list[EmbeddingEvent]:
        """An event for each request. What a model raises goes to `failures` and ends only the guilty."""
        events: list[EmbeddingEvent] = []
        for name in dict.fromkeys(request.encoder for request in requests):
            own = [request for request in requests if request.encoder == name]
            for batch in _batches(own, self._options.step_tokens):
                events += self._embed(self._encoders[name], batch, failures)
        return events

    def _embed(
        self, encoder: "Encoder", requests: Texts[EmbeddingRequest], failures: list[Exception]
    ) -> list[EmbeddingEvent]:
        try:
            vectors = encoder([request.prompt for request in requests])
        except Exception as error:  # whatever a model or its device raises ends the guilty, not the engine
            failures.append(error)
            if len(requests) > 1:
                half = len(requests) // 2
                parts = (requests[:half], requests[half:])
                return [event for part in parts for event in self._embed(encoder, part, failures)]
            reason = f"the engine's step failed ({type(error).__name__})"
            return [EmbeddingEvent(id=requests[0].id, error=reason)]
        return [_event(request.id, vector) for request, vector in zip(requests, vectors, strict=True)]


class Encoder:
    """One encoder. Called with texts it gives their vectors [texts, width]."""

    def __init__(self, loaded: Loaded, longest: int | None) -> None:
        self._loaded = loaded  # its memory is what the tensors are views of
        self._model = loaded.model
        config = self._model.config
        shift = config.pad_token_id + 1 if config.model_type in _SHIFTED else 0
        self.context_length: int = min(config.max_position_embeddings - shift, longest or 2**31)
        self.vocabulary: int = config.vocab_size
        self._padding: int = config.pad_token_id or 0

    @classmethod
    def load(cls, files: ModelFiles, options: EngineOptions) -> "Encoder":
        """The encoder in these files. Raises ModelRefused."""
        config = read_config(files, check_files(files))
        _check_modules(files)
        if getattr(config, "is_decoder", False) or not isinstance(
            getattr(config, "max_position_embeddings", None), int
        ):
            raise ModelRefused(f"{files.label} is a {config.model_type}, which is no sentence encoder")
        optional = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
        loaded = build(
            files, MODEL_MAPPING, config, dtype=options.dtype, device=options.device, optional=optional
        )
        if "attention_mask" not in inspect.signature(loaded.model.forward).parameters:
            raise ModelRefused(f"{files.label} takes no attention mask: its texts could not share a batch")
        return cls(loaded, _longest(files))

    def erase(self) -> None:
        """Overwrite the weights."""
        self._loaded.erase()

    @torch.inference_mode()
    def __call__(self, texts: Texts[tuple[int, ...]]) -> list[list[float] | None]:
        """Vectors of length 1, None for a text whose vector is not of finite numbers."""
        width = max(len(text) for text in texts)
        rows = [list(text) + [self._padding] * (width - len(text)) for text in texts]
        counts = torch.tensor([len(text) for text in texts], device=self._model.device)
        mask = torch.arange(width, device=self._model.device) < counts[:, None]
        hidden = self._model(
            input_ids=torch.tensor(rows, device=self._model.device), attention_mask=mask.long()
        ).last_hidden_state.float()
        # Where, not times: what padding holds, NaN included, must not count.
        mean = hidden.where(mask[:, :, None], 0.0).sum(dim=1) / counts[:, None]
        vectors = torch.nn.functional.normalize(mean, dim=-1)
        finite = torch.isfinite(vectors).all(dim=-1).tolist()
        return [vector if ok else None for vector, ok in zip(vectors.tolist(), finite, strict=True)]


def _batches(requests: list[EmbeddingRequest], tokens: int) -> Iterator[list[EmbeddingRequest]]:
    """Requests of like lengths together, each batch at most so many tokens with its padding, or one text."""
    batch: list[EmbeddingRequest] = []
    for request in sorted(requests, key=lambda request: len(request.prompt)):
        if batch and (len(batch) + 1) * len(request.prompt) > tokens:
            yield batch
            batch = []
        batch.append(request)
    yield batch


def _event(name: str, vector: list[float] | None) -> EmbeddingEvent:
    if vector is None:
        return EmbeddingEvent(id=name, error="the encoder's numbers are not finite")
    return EmbeddingEvent(id=name, vector=tuple(vector))


def _check_modules(files: ModelFiles) -> None:
    """Refuse whatever is not transformer, mean pooling and, or not, normalisation."""
    if "modules.json" not in files.sizes:
        raise ModelRefused(f"{files.label} has no modules.json: give a sentence-transformers directory")
    modules = _modules(files)
    if modules not in (list(_MODULES), list(_MODULES[:2])):
        raise ModelRefused(f"{files.label}: modules.json asks for {', '.join(modules)}: not supported")
    pooling = read_json(files, _POOLING)
    kinds = sorted(k for k, v in pooling.items() if k.startswith("pooling_mode_") and v)
    if kinds != ["pooling_mode_mean_tokens"] or pooling.get("include_prompt", True) is not True:
        raise ModelRefused(
            f"{files.label}: {_POOLING} asks for {', '.join(kinds)}: only the mean is supported"
        )


def _modules(files: ModelFiles) -> list[str]:
    listed: Any = read_json(files, "modules.json", kind=list)
    try:
        return [str(one["type"]).rpartition(".")[2] for one in listed]
    except (TypeError, KeyError):
        raise ModelRefused(f"{files.label}: modules.json is not a list of modules") from None


def _longest(files: ModelFiles) -> int | None:
    if "sentence_bert_config.json" not in files.sizes:
        return None
    longest = read_json(files, "sentence_bert_config.json").get("max_seq_length")
    return longest if isinstance(longest, int) and longest > 0 else None
