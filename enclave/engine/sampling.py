"""Choosing the next token, each row by its own rules and its own random numbers.

Every operation works along a row alone, so a row's choice does not depend on who shares the batch.
"""

import secrets
from collections.abc import Callable
from collections.abc import Sequence as Rows

import torch

from .interface import Sampling


def draws(seed: int | None) -> Callable[[], float]:
    """A stream of uniform numbers in [0, 1) that belongs to one request."""
    generator = torch.Generator()
    generator.manual_seed(secrets.randbits(63) if seed is None else seed)

    def draw() -> float:
        return float(torch.rand((), generator=generator, dtype=torch.float64))

    return draw


def choose(
    logits: torch.Tensor, rules: Rows[Sampling], streams: Rows[Callable[[], float]]
) -> list[int | None]:
    """A token for each row of `logits` [rows, vocabulary]; None where a logit is NaN or infinite."""
    if not rules:
        return []
    finite = torch.isfinite(logits).all(dim=-1).tolist()
    greedy = logits.argmax(dim=-1).tolist()
    tokens: list[int | None] = [token if ok else None for token, ok in zip(greedy, finite, strict=True)]
    random = [row for row, rule in enumerate(rules) if rule.temperature > 0 and finite[row]]
    cut = [row for row in random if rules[row].top_p < 1 or rules[row].top_k]
    plain = [row for row in random if row not in cut]
    for rows, sample in ((plain, _sample), (cut, _sample_cut)):
        if rows:
            uniform = logits.new_tensor([streams[row]() for row in rows], dtype=torch.float64)
            chosen = sample(
                _scaled(logits[rows], [rules[row] for row in rows]), uniform, [rules[r] for r in rows]
            )
            for row, token in zip(rows, chosen.tolist(), strict=True):
                tokens[row] = token
    return tokens


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
