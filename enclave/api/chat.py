"""Chat requests as OpenAI's clients send them: messages, tools, the shape of the answer."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from enclave.engine.interface import MAX_TOP_LOGPROBS

from . import refused
from .schemas import MAX_TEXT, Common, Strict

MAX_TOOLS = 128
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str = Field(max_length=MAX_TEXT)


Content = (
    Annotated[str, Field(max_length=MAX_TEXT)]
    | Annotated[list[TextPart], Field(max_length=256, fail_fast=True)]
)


class CalledFunction(Strict):
    """A function's name and its arguments as JSON text."""

    name: Name
    arguments: Annotated[str, Field(max_length=MAX_TEXT)]

    @model_validator(mode="after")
    def _arguments_are_an_object(self) -> Self:
        try:
            value = json.loads(self.arguments)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ValueError("arguments is not a JSON object")
        return self


class Call(Strict):
    """A call that the assistant made earlier in the conversation."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"]
    function: CalledFunction

    def as_turn(self) -> dict[str, Any]:
        """As chat templates take it: arguments decoded."""
        function = {"name": self.function.name, "arguments": json.loads(self.function.arguments)}
        return {"id": self.id, "type": "function", "function": function}


class Message(Strict):
    """One turn. `developer` is read as `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: None = None
    tool_calls: Annotated[list[Call], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only the assistant has tool_calls")
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id belongs to tool messages, and each of them has one")
        return self

    def as_turn(self) -> dict[str, Any]:
        """Role, plain text, calls, as chat templates take them."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        turn: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.tool_calls:
            turn["tool_calls"] = [call.as_turn() for call in self.tool_calls]
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn


class FunctionTool(Strict):
    """A function that the model may call. `strict` true or not, arguments always match the parameters."""

    name: Name
    description: Annotated[str, Field(max_length=16_384)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """A tool."""

    type: Literal["function"]
    function: FunctionTool

    def as_definition(self) -> dict[str, Any]:
        """As chat templates take it."""
        own = self.function
        function = {"name": own.name, "description": own.description or ""}
        return {"type": "function", "function": function | {"parameters": own.parameters or NO_PARAMETERS}}


NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


class NamedFunction(Strict):
    """A function by its name."""

    name: Name


class NamedTool(Strict):
    """A tool by its function's name."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Strict):
    """Some of the tools, and whether one must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(Strict):
    """`tool_choice` that narrows the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class TextFormat(Strict):
    """No shape."""

    type: Literal["text"]


class ObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Strict):
    """A schema. `strict` true or not, the answer always matches it."""

    name: Name
    description: Annotated[str, Field(max_length=16_384)] | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class SchemaFormat(Strict):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]
Choice = Literal["none", "auto", "required"] | NamedTool | AllowedChoice


class ChatRequest(Common):
    """POST /v1/chat/completions."""

    prompt_field = "messages"
    refused = refused.CHAT

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024, fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: Format | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ; send the second alone")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs = true")
        if not self.tools and (self.tool_choice not in (None, "none", "auto")):
            raise ValueError("tool_choice needs tools")
        if not self.tools and self.parallel_tool_calls is not None:
            raise ValueError("parallel_tool_calls needs tools")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) != len(names):
            raise ValueError("two tools have one name")
        return self

    def limit(self) -> int | None:
        """The most tokens to generate; None leaves it to the context."""
        return self.max_completion_tokens or self.max_tokens

    def scores(self) -> int | None:
        """How many likely tokens to report beside each chosen one; None for none at all."""
        return (self.top_logprobs or 0) if self.logprobs else None
