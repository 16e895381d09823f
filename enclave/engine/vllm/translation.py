"""Requests to vLLM's words and its outputs back to events."""

import json
import math
import secrets
from collections.abc import Iterator
from typing import Any, Final

from vllm import SamplingParams
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from ..interface import Finish, GenerationRequest, InvalidRequest, Priority, TokenEvent

RANKS: Final = {Priority.PREMIUM: 0, Priority.STANDARD: 1, Priority.BASIC: 2}
"""vLLM runs the smallest first, strictly: it knows no reserved shares."""

_FINISHES: Final[dict[str, Finish]] = {"stop": "stop", "length": "length", "abort": "cancelled"}


def prompt_of(request: GenerationRequest) -> dict[str, Any]:
    """Token ids, and the salt that keeps prefix blocks apart: a fresh one where nothing may be shared."""
    salt = request.share.hex() if request.share is not None else secrets.token_hex(32)
    return {"prompt_token_ids": list(request.prompt), "cache_salt": salt}


def sampling_of(request: GenerationRequest) -> SamplingParams:
    """The request's sampling, bounds and grammar. Raises InvalidRequest."""
    rules = request.sampling
    return SamplingParams(
        temperature=rules.temperature,
        top_p=rules.top_p,
        top_k=rules.top_k,
        seed=rules.seed,
        frequency_penalty=rules.frequency_penalty,
        presence_penalty=rules.presence_penalty,
        logit_bias=dict(rules.logit_bias) or None,
        max_tokens=request.max_tokens,
        logprobs=request.logprobs,
        stop_token_ids=sorted(request.eos),
        ignore_eos=True,  # the request's own end tokens count, and no others
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=_structured(request.grammar),
    )


def events_of(output: RequestOutput, request: GenerationRequest) -> Iterator[TokenEvent]:
    """The events of one output; an end token is not reported."""
    answer = output.outputs[0]
    tokens = list(answer.token_ids)
    scores = list(answer.logprobs or ()) or [None] * len(tokens)
    finish = _finish(answer.finish_reason) if output.finished else None
    if finish == "stop" and tokens and tokens[-1] in request.eos:
        tokens.pop()
    for at, token in enumerate(tokens):
        last = at == len(tokens) - 1 and finish == "length"
        yield TokenEvent(
            id=request.id,
            token=token,
            finish="length" if last else None,
            **_scored(token, scores[at], request.logprobs),
        )
    if finish is not None and not (finish == "length" and tokens):
        error = None if finish != "error" else "vLLM could not finish this request"
        yield TokenEvent(id=request.id, finish=finish, error=error)


def _finish(reason: str | None) -> Finish:
    return _FINISHES.get(reason or "", "error")


def _scored(token: int, scores: Any, wanted: int | None) -> dict[str, Any]:
    if wanted is None or scores is None:
        return {}
    ranked = sorted(
        ((other, score.logprob) for other, score in scores.items() if (score.rank or math.inf) <= wanted),
        key=lambda pair: -pair[1],
    )
    return {"logprob": scores[token].logprob, "top": tuple(ranked[:wanted])}


def lark_of(grammar: str) -> str:
    """The Lark text in llguidance's JSON: vLLM takes Lark alone. Raises InvalidRequest for more than one."""
    if not grammar.lstrip().startswith("{"):
        return grammar
    try:
        (only,) = json.loads(grammar)["grammars"]
        return str(only["lark_grammar"])
    except (ValueError, KeyError, TypeError):
        raise InvalidRequest("vLLM takes one Lark grammar and nothing else") from None


def _structured(grammar: str | None) -> StructuredOutputsParams | None:
    return None if grammar is None else StructuredOutputsParams(grammar=lark_of(grammar))
