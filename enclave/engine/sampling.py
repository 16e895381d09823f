"""Choosing the next token, each row by its own rules and its own random numbers.

Every operation works along a row alone, so a row's choice does not depend on who shares the batch. The
order: log-probabilities of the model as it is; then penalties and bias; then the grammar; then temperature,
top-k, top-p.
"""

import secrets
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import Any

import torch

from .grammar import Matcher
from .interface import GenerationRequest, Sampling


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token and, where asked for, its natural log-probability and those of the likeliest tokens."""

    token: int = field(repr=False)
    logprob: float | None = field(default=None, repr=False)
    top: tuple[tuple[int, float], ...] = field(default=(), repr=False)


class Rules:
    """How one request chooses its tokens, and what it must remember for that."""

    def __init__(self, request: GenerationRequest, vocabulary: int, device: torch.device) -> None:
        self.sampling = request.sampling
        self.logprobs = request.logprobs
        self.draw = draws(request.sampling.seed)
        self.matcher: Matcher | None = None
        self.added: torch.Tensor | None = None
        self._seen: set[int] = set()
        self._penalised = bool(self.sampling.frequency_penalty or self.sampling.presence_penalty)
        if self._penalised or self.sampling.logit_bias:
            self.added = torch.zeros(vocabulary, device=device)
            self._bias(self.added)

    def _bias(self, added: torch.Tensor) -> None:
        tokens, values = [[pair[at] for pair in self.sampling.logit_bias] for at in (0, 1)]
        device = added.device
        added.index_add_(0, torch.tensor(tokens, dtype=torch.long, device=device), added.new_tensor(values))

    def note(self, token: int) -> None:
        """Remember a token of the answer."""
        if self.added is not None and self._penalised:
            first = token not in self._seen
            self._seen.add(token)
            self.added[token] -= self.sampling.frequency_penalty + first * self.sampling.presence_penalty

    def erase(self) -> None:
        """Overwrite what was remembered."""
        if self.added is not None:
            self.added.zero_()
        self._seen.clear()


def draws(seed: int | None) -> Callable[[], float]:
    """A stream of uniform numbers in [0, 1) that belongs to one request."""
    generator = torch.Generator()
    generator.manual_seed(secrets.randbits(63) if seed is None else seed)

    def draw() -> float:
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    return draw


def choose(
    logits: torch.Tensor, rules: Rows[Rules], allowed: torch.Tensor | None = None
) -> list[Chosen | None]:
    """A token for each row of `logits` [rows, vocabulary]; None where a logit is NaN or infinite.

    `allowed` [rows, vocabulary] is False where a row's grammar forbids a token.
    """
    if not rules:
        return []
    finite = torch.isfinite(logits.sum(dim=-1, dtype=torch.float32)).tolist()
    told = [row for row, rule in enumerate(rules) if rule.logprobs is not None]
    likelihoods = logits[told].float().log_softmax(dim=-1) if told else None
    logits = _adjusted(logits, rules, allowed)
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    _draw(logits, [rule.sampling for rule in rules], rules, finite, tokens)
    chosen = [Chosen(token) if ok else None for token, ok in zip(tokens, finite, strict=True)]
    if likelihoods is not None:
        for row, likelihood in zip(told, likelihoods, strict=True):
            chosen[row] = chosen[row] and _explained(tokens[row], likelihood, rules[row].logprobs or 0)
    return chosen


def _adjusted(logits: torch.Tensor, rules: Rows[Rules], allowed: torch.Tensor | None) -> torch.Tensor:
    changed = [row for row, rule in enumerate(rules) if rule.added is not None]
    if changed:
        added: Any = [rules[row].added for row in changed]
        logits = logits.float()
        logits = logits.index_add(0, torch.tensor(changed, device=logits.device), torch.stack(added))
    return logits if allowed is None else logits.masked_fill(~allowed.to(logits.device), -torch.inf)


def _explained(token: int, likelihood: torch.Tensor, count: int) -> Chosen:
    top = likelihood.topk(min(count, len(likelihood)))
    pairs = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return Chosen(token, float(likelihood[token]), pairs)


def _draw(
    logits: torch.Tensor, samplings: Rows[Sampling], rules: Rows[Rules], finite: list[bool], tokens: list[int]
) -> None:
    """Replace the likeliest token where a row draws its own."""
    random = [row for row, rule in enumerate(samplings) if rule.temperature > 0 and finite[row]]
    cut = [row for row in random if samplings[row].top_p < 1 or samplings[row].top_k]
    plain = [row for row in random if row not in cut]
    for rows, sample in ((plain, _sample), (cut, _sample_cut)):
        if rows:
            uniform = logits.new_tensor([rules[row].draw() for row in rows], dtype=torch.float64)
            own = [samplings[row] for row in rows]
            for row, token in zip(
                rows, sample(_scaled(logits[rows], own), uniform, own).tolist(), strict=True
            ):
                tokens[row] = token


def _scaled(logits: torch.Tensor, rules: Rows[Sampling]) -> torch.Tensor:
    temperature = logits.new_tensor([rule.temperature for rule in rules], dtype=torch.float64)[:, None]
    # The largest becomes 0 first, so a tiny temperature gives minus infinity and never NaN.
    centred = logits.double() - logits.double().amax(dim=-1, keepdim=True)
    return centred / temperature


def _sample(scores: torch.Tensor, uniform: torch.Tensor, rules: Rows[Sampling]) -> torch.Tensor:
    return _inverse(scores.softmax(dim=-1), uniform)


def _sample_cut(scores: torch.Tensor, uniform: torch.Tensor, rules: Rows[Sampling]) -> torch.Tensor:
    ordered = scores.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scores.shape[-1], device=scores.device)
    top_k = torch.tensor([rule.top_k or scores.shape[-1] for rule in rules], device=scores.device)[:, None]
    top_p = scores.new_tensor([rule.top_p for rule in rules])[:, None]
    likely = ordered.values.masked_fill(rank >= top_k, -torch.inf).softmax(dim=-1)
    # The smallest set that reaches top_p: a token stays while those before it fall short.
    before = likely.cumsum(dim=-1) - likely
    picked = _inverse(likely.masked_fill(before >= top_p, 0.0), uniform)
    return ordered.indices.gather(-1, picked[:, None])[:, 0]


def _inverse(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The first index whose cumulative weight exceeds uniform times the whole; its weight is above 0."""
    cumulative = weights.cumsum(dim=-1)
    whole = cumulative[:, -1]
    target = torch.minimum(uniform * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
