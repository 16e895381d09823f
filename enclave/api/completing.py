"""A plain completion request to answers in the making."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from enclave.text.calls import Content

from .answers import Form, collect
from .errors import ApiError
from .forms import CompletionForm
from .generation import Generation, Piece, Whole
from .held import Answering
from .schemas import CompletionRequest
from .service import Caller, Service

MAX_ANSWERS = 32
DEFAULT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Chosen:
    """An answer that is already whole."""

    piece: Piece
    completion_tokens: int

    async def pieces(self) -> AsyncGenerator[Piece]:
        """The one piece."""
        yield self.piece

    def close(self) -> None:
        """Nothing runs."""


async def complete(
    service: Service, request: CompletionRequest, caller: Caller
) -> tuple[Sequence[Answering], Form, int]:
    """The answers, how they are spelled, and how many tokens the prompts have. Raises ApiError."""
    count = request.best_of or request.choices()
    given = request.prompts()
    if len(given) * count > MAX_ANSWERS:
        raise ApiError(400, f"prompts times n exceed {MAX_ANSWERS} answers", param="n")
    prompts = [await asyncio.to_thread(service.prompt_ids, prompt) for prompt in given]
    answers: list[Answering] = []
    try:
        for ids in prompts:
            started = await _start(service, request, caller, ids, count)
            answers += started if count == request.choices() else await _best(started, request.choices())
    except BaseException:  # refused or cancelled: what was begun must not go on
        for answer in answers:
            answer.close()
        raise
    echoes = [text for text in _texts(service, given) for _ in range(request.choices())]
    form = CompletionForm(
        service.text.token_bytes, request.logprobs is not None, echoes if request.echo else ()
    )
    return answers, form, sum(map(len, prompts))


async def _start(
    service: Service, request: CompletionRequest, caller: Caller, ids: tuple[int, ...], count: int
) -> list[Generation]:
    ranked = count > request.choices()
    return await service.start(
        request,
        caller,
        ids,
        limit=request.max_tokens or DEFAULT_TOKENS,
        count=count,
        scores=request.logprobs if request.logprobs is not None else (0 if ranked else None),
    )


async def _best(answers: Sequence[Generation], count: int) -> list[Chosen]:
    """The `count` answers of the highest mean log-probability; the tokens of all count for the first."""
    ranked = sorted(await collect(answers), key=_mean, reverse=True)[:count]
    made = sum(answer.completion_tokens for answer in answers)
    return [
        Chosen(Piece((Content(whole.text),), tuple(whole.tokens), whole.finish), made if place == 0 else 0)
        for place, whole in enumerate(ranked)
    ]


def _mean(answer: Whole) -> float:
    return sum(score.logprob for score in answer.tokens) / max(1, len(answer.tokens))


def _texts(service: Service, prompts: Sequence[str | list[int]]) -> list[str]:
    return [prompt if isinstance(prompt, str) else service.text.decode(prompt) for prompt in prompts]
