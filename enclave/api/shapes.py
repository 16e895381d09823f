"""What an answer must look like: from `response_format` and `tools` to a grammar and a check."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from enclave.consent.rules import AGREED
from enclave.text.calls import CallReader
from enclave.text.grammar import MAX_CHARACTERS, Function, check, of_calls, of_schema
from enclave.text.json_schema import MAX_MULTIPLE, AnswerSchema, SchemaRefused, accept
from enclave.text.tool_form import BARE, ToolForm

from .chat import NO_PARAMETERS, AllowedChoice, ChatRequest, NamedTool, ObjectFormat, SchemaFormat, Tool
from .errors import ApiError
from .generation import Piece, Plain, Reader, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`content` is what JSON content must match, `functions` what may be called in `form`.

    `definitions` are the tools as the prompt tells of them; `required` says that a call must be made. Unless
    `quoted`, nothing of an answer that does not match is shown, not even in an error.
    """

    form: ToolForm
    content: AnswerSchema | None = None
    functions: Mapping[str, Function] = field(default_factory=dict)
    definitions: Sequence[Mapping[str, Any]] = ()
    required: bool = False
    parallel: bool = True
    quoted: bool = True

    @property
    def free(self) -> bool:
        """Whether any text will do."""
        return self.content is None and not self.functions

    def grammar(self) -> str | None:
        """What the engine must keep to; None for any text."""
        if self.functions:
            return of_calls(
                list(self.functions.values()),
                self.form,
                required=self.required,
                parallel=self.parallel,
                content=self.content,
            )
        return of_schema(self.content) if self.content is not None else None

    def schema(self) -> str:
        """The schema of JSON content, as JSON."""
        return json.dumps(self.content.schema if self.content is not None else True, ensure_ascii=False)

    def reader(self) -> Reader:
        """Reads answers that the grammar let through."""
        return CallReader(self.form) if self.functions else Plain()

    def read(self, whole: Whole) -> Whole:
        """An answer of an engine without masks, its text parted into content and calls. Raises BrokenCall."""
        if self.free:
            return whole
        reader, parted = self.reader(), Whole(completion_tokens=whole.completion_tokens)
        parts = (*reader.push(unfenced(whole.text)), *reader.flush(cut=whole.finish == "length"))
        parted.add(Piece(parts, (), whole.finish))
        if parted.calls and parted.finish == "stop":
            parted.finish = "tool_calls"
        return parted

    def complaint(self, whole: Whole) -> str | None:
        """What is wrong with a whole answer, in the validator's words; None if nothing."""
        if whole.finish == "length" or self.free:
            return None
        if not whole.calls:
            if self.required:
                return "no function was called"
            return None if self.content is None else _complaint(self.content, whole.text)
        if len(whole.calls) > 1 and not self.parallel:
            return "more than one function was called"
        for name, arguments in whole.calls:
            if name not in self.functions:
                return f"there is no function {name[:64]!r}"
            if words := _complaint(self.functions[name].arguments, arguments):
                return f"arguments of {name}: {words}"
        return None


def shape_of(request: ChatRequest, form: ToolForm) -> Shape:
    """The shape that a request asks for; ApiError 400, with a JSON pointer, if it cannot be honoured."""
    _check_size(request)
    content = _content(request)
    tools, required = _callable(request)
    if request.logprobs and tools:
        raise _refused("logprobs", "logprobs cannot be combined with tools")
    if request.stop is not None and (content is not None or required):
        raise _refused("stop", "stop would cut an answer that must have a shape; leave it out")
    if content is not None and tools and not required and form is BARE:
        raise _refused("response_format", "this model writes calls as JSON: no response_format beside tools")
    shape = Shape(
        form=form,
        content=content,
        functions={tool.function.name: _function(request, tool) for tool in tools},
        definitions=[tool.as_definition() for tool in tools],
        required=required,
        parallel=request.parallel_tool_calls is not False,
        quoted=not _is_agreed(request),
    )
    if len(shape.grammar() or "") > MAX_CHARACTERS:
        raise _refused("tools", "the schemas of tools and response_format are too large together")
    held_to = [*([content] if content else []), *(each.arguments for each in shape.functions.values())]
    if sum(each.remainders for each in held_to) > MAX_MULTIPLE:
        raise _refused("tools", f"multiples of all schemas together exceed {MAX_MULTIPLE}")
    return shape


def _is_agreed(request: ChatRequest) -> bool:
    """Whether a consent's layer put the schema there."""
    form = request.response_format
    return isinstance(form, SchemaFormat) and form.json_schema.name == AGREED


def _check_size(request: ChatRequest) -> None:
    """ApiError 400 for schemas that are too large together, before any of them is looked at."""
    schemas: list[Any] = [tool.function.parameters for tool in request.tools or ()]
    if isinstance(request.response_format, SchemaFormat):
        schemas.append(request.response_format.json_schema.schema_)
    try:
        size = sum(len(json.dumps(schema)) for schema in schemas)
    except RecursionError:
        size = MAX_CHARACTERS + 1
    if size > MAX_CHARACTERS:
        place = "tools" if request.tools else "response_format.json_schema.schema"
        message = f"{place} at its root: more than {MAX_CHARACTERS} characters in all schemas together"
        raise ApiError(400, message, param=place, code="invalid_schema")


def unfenced(text: str) -> str:
    """JSON that a model put between Markdown's fences, without them."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```") and "\n" in bare:
        return bare[bare.index("\n") + 1 : -3].strip()
    return bare


def _content(request: ChatRequest) -> AnswerSchema | None:
    match request.response_format:
        case ObjectFormat():
            return accept({"type": "object"})
        case SchemaFormat(json_schema=named):
            return _accepted(named.schema_, "response_format.json_schema.schema")
    return None


def _callable(request: ChatRequest) -> tuple[list[Tool], bool]:
    """The tools that may be called, and whether one must be."""
    tools = request.tools or []
    match request.tool_choice:
        case "none":
            return [], False
        case "required":
            return tools, True
        case NamedTool(function=named):
            return _named([named.name], tools), True
        case AllowedChoice(allowed_tools=allowed):
            names = [tool.function.name for tool in allowed.tools]
            return _named(names, tools), allowed.mode == "required"
    return tools, False


def _named(names: Sequence[str], tools: Sequence[Tool]) -> list[Tool]:
    known = {tool.function.name: tool for tool in tools}
    missing = next((name for name in names if name not in known), None)
    if missing is not None:
        raise _refused("tool_choice", f"tool_choice names {missing!r}, which is not among the tools")
    return [known[name] for name in dict.fromkeys(names)]


def _function(request: ChatRequest, tool: Tool) -> Function:
    at = (request.tools or []).index(tool)
    place = f"tools.{at}.function.parameters"
    parameters = {"type": "object"} | (tool.function.parameters or NO_PARAMETERS)
    if parameters["type"] != "object":
        raise _refused(place, f"{place} at /type: arguments are an object")
    return Function(tool.function.name, _accepted(parameters, place))


def _accepted(schema: dict[str, Any], place: str) -> AnswerSchema:
    try:
        accepted = accept(schema)
        check(accepted)
    except SchemaRefused as error:
        raise ApiError(400, f"{place} {error}", param=place, code="invalid_schema") from None
    return accepted


def _complaint(schema: AnswerSchema, text: str) -> str | None:
    try:
        return schema.complaint(json.loads(unfenced(text)))
    except (ValueError, RecursionError):
        return "it is not JSON"


def _refused(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="unsupported")
