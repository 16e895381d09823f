"""Requests as OpenAI's clients send them. A field that is neither here nor in refused.py is refused."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from enclave.engine.interface import MAX_BIASED_TOKENS, MAX_TOP_LOGPROBS

from . import refused

MAX_TEXT = 4 * 1024 * 1024
MAX_PROMPT = 1 << 20
MAX_STOPS = 4
MAX_CHOICES = 8
MAX_PROMPTS = 16
MAX_INPUTS = 2048

Stop = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Ids = Annotated[list[int], Field(min_length=1, max_length=MAX_PROMPT, fail_fast=True)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]


class Strict(BaseModel):
    """Unknown fields are errors that name the field; NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Body(Strict):
    """A request's body. `refused` lists the fields that cannot be honoured and their neutral values."""

    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The request in `body`. Raises ApiError, pydantic.ValidationError."""
        return cls.model_validate(refused.without(body, cls.refused))


class StreamOptions(Strict):
    """What a stream carries besides text. Obfuscation is the channel's: every event is padded, always."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Common(Body):
    """What chat and plain completions share. `prompt_field` names the field that holds the prompt."""

    prompt_field: ClassVar[str] = "prompt"

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS, fail_fast=True)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASED_TOKENS)] | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    def stops(self) -> tuple[str, ...]:
        """The stop strings, none to four of them."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def biases(self) -> tuple[tuple[int, float], ...]:
        """Token ids and what is added to their logits."""
        return tuple((int(token), bias) for token, bias in (self.logit_bias or {}).items())

    def choices(self) -> int:
        """How many answers to one prompt."""
        return self.n or 1

    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(Common):
    """POST /v1/completions. `prompt` is a text, token ids, or a list of either."""

    refused = refused.COMPLETION

    prompt: Text | Ids | Annotated[list[Text | Ids], Field(min_length=1, max_length=MAX_PROMPTS)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.best_of is not None and self.best_of < self.choices():
            raise ValueError("best_of is smaller than n")
        if self.stream and (self.best_of or 1) > self.choices():
            raise ValueError("best_of above n cannot be streamed: the best is known at the end")
        if self.echo and self.logprobs is not None:
            raise ValueError("echo with logprobs is not supported: prompts are not scored")
        return self

    def prompts(self) -> list[str | list[int]]:
        """The prompts, one or more of them."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        whole = [item for item in prompt if isinstance(item, int)]
        return [whole] if whole else [item for item in prompt if not isinstance(item, int)]


class EmbeddingsRequest(Body):
    """POST /v1/embeddings. `input` is a text, token ids, or a list of either."""

    refused = refused.EMBEDDING

    model: str
    input: Text | Ids | Annotated[list[Text | Ids], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None

    def inputs(self) -> list[str | list[int]]:
        """The inputs, one or more of them."""
        given = self.input
        if isinstance(given, str):
            return [given]
        whole = [item for item in given if isinstance(item, int)]
        return [whole] if whole else [item for item in given if not isinstance(item, int)]
