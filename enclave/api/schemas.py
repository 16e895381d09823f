"""Requests as OpenAI's clients send them. A field that is not here, or not neutral, is refused."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Stop = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
MAX_TEXT = 4 * 1024 * 1024
MAX_PROMPT = 1 << 20


class Strict(BaseModel):
    """Unknown fields are errors that name the field; NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class TextPart(Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str = Field(max_length=MAX_TEXT)


class ChatMessage(Strict):
    """One turn. `developer` is read as `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Annotated[str, Field(max_length=MAX_TEXT)]
        | Annotated[list[TextPart], Field(max_length=256, fail_fast=True)]
    )
    name: None = None

    def as_turn(self) -> dict[str, str]:
        """Role and plain text, as chat templates take them."""
        role = "system" if self.role == "developer" else self.role
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": role, "content": text}


class StreamOptions(Strict):
    """What a stream carries besides text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Common(Strict):
    """What chat and plain completions share. `prompt_field` names the field that holds the prompt."""

    prompt_field: ClassVar[str] = "prompt"

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    user: None = None

    def stops(self) -> tuple[str, ...]:
        """The stop strings, none to four of them."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class ChatRequest(Common):
    """POST /v1/chat/completions."""

    prompt_field: ClassVar[str] = "messages"

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1024, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] | None = None

    def limit(self) -> int | None:
        """The most tokens to generate; None leaves it to the context."""
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Common):
    """POST /v1/completions. `prompt` is one text or one list of token ids."""

    prompt: (
        Annotated[str, Field(max_length=MAX_TEXT)]
        | Annotated[list[int], Field(min_length=1, max_length=MAX_PROMPT, fail_fast=True)]
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None
    logprobs: None = None
