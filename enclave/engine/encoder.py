"""Sentence encoders: texts in, unit vectors out."""

from collections.abc import Sequence as Texts

from ..files import ModelFiles
from .interface import EmbeddingEvent, EmbeddingRequest, EngineOptions, ModelRefused, UnknownEncoder


class EncoderSet:
    def __init__(self, options: EngineOptions) -> None:
        self.names: frozenset[str] = frozenset()

    def load(self, name: str, files: ModelFiles) -> None:
        raise ModelRefused("this engine runs no encoders")

    def check(self, request: EmbeddingRequest) -> None:
        raise UnknownEncoder(f"no encoder named {request.encoder!r} is loaded")

    def embed(self, requests: Texts[EmbeddingRequest], failures: list[Exception]) -> list[EmbeddingEvent]:
        return []
