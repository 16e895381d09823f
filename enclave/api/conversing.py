"""A chat request to answers in the making."""

import asyncio
from collections.abc import Sequence

from .answers import Form
from .chat import ChatRequest
from .forms import ChatForm
from .generation import Generation
from .held import Answering, Checked, Repaired, Turns, told_shape
from .service import Caller, Service
from .shapes import Shape, shape_of


async def converse(
    service: Service, request: ChatRequest, caller: Caller
) -> tuple[Sequence[Answering], Form, int]:
    """The answers, how they are spelled, and how many tokens the prompt has. Raises ApiError."""
    shape, turns, ids = await asyncio.to_thread(_prepare, service, request)  # compiling, tokenizing: a while
    form = ChatForm(service.text.token_bytes, bool(request.logprobs))
    if shape.free or service.masks:
        generations = await service.start(
            request,
            caller,
            ids,
            limit=request.limit(),
            count=request.choices(),
            scores=request.scores(),
            shape=shape,
        )
        answers: Sequence[Answering] = (
            generations if shape.free else [Checked(answer, shape) for answer in generations]
        )
        return answers, form, len(ids)

    async def generate(turns: Turns) -> Generation:
        ids = await asyncio.to_thread(service.chat_ids, turns, shape.definitions)
        return (await service.start(request, caller, ids, limit=request.limit()))[0]

    return [Repaired(shape, turns, generate) for _ in range(request.choices())], form, len(ids)


def _prepare(service: Service, request: ChatRequest) -> tuple[Shape, Turns, tuple[int, ...]]:
    shape = shape_of(request, service.text.tool_form)
    turns: Turns = [message.as_turn() for message in request.messages]
    if not service.masks:
        turns = told_shape(turns, shape)
    return shape, turns, service.chat_ids(turns, shape.definitions)
