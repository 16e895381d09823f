"""Attention over blocks, given to transformers' models under the name `NAME`.

The model hands each layer's queries, keys and values here instead of to a cache of its own; the step's
plan comes along as the keyword argument `plan` of the model's `forward`.
"""

from typing import Any

import torch
from transformers import AttentionInterface

from .interface import ModelRefused
from .plan import Group, StepPlan

NAME = "cloister_blocks"

# What some architectures ask of attention beyond scaled dot products. None of it is computed here.
_UNSUPPORTED = ("softcap", "s_aux", "sinks", "position_bias")


def block_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    plan: StepPlan,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **extras: Any,
) -> tuple[torch.Tensor, None]:
    """Store keys and values [tokens, kv_heads, 1, head_dim], attend, return [tokens, 1, heads, head_dim].

    Raises ModelRefused for attention of another kind: its tokens would be wrong.
    """
    asked = [name for name in _UNSUPPORTED if extras.get(name) is not None]
    if asked or attention_mask is not None:
        raise ModelRefused(f"this architecture needs {', '.join(asked) or 'a mask of its own'} in attention")
    arena = plan.arena
    expected = (len(plan.positions), arena.kv_heads, 1, arena.head_dim)
    if key.shape != expected or value.shape != expected:
        raise ModelRefused("this architecture stores keys and values of differing shapes")
    layer: int = module.layer_idx  # type: ignore[assignment]
    plan.calls += 1
    plan.windows.add(sliding_window)
    arena.write(layer, plan.slots, key[:, :, 0], value[:, :, 0])
    parts = [
        _attend(query[group.rows, :, 0], group, plan, layer, scaling, sliding_window) for group in plan.groups
    ]
    return (torch.cat(parts) if len(parts) > 1 else parts[0])[:, None], None


def _attend(
    query: torch.Tensor, group: Group, plan: StepPlan, layer: int, scaling: float | None, window: int | None
) -> torch.Tensor:
    """Queries [rows, heads, head_dim] of one group to the same shape. Heads that share keys sit together.

    Decoding rows: the sharing heads become the query axis of their sequence. A prompt's piece: the key heads
    become the batch, and the sharing heads see the same keys without a copy.
    """
    keys, values = plan.arena.read(layer, group.table)
    rows, heads, width = query.shape
    share = heads // plan.arena.kv_heads
    queries = query.reshape(rows, plan.arena.kv_heads, share, width)
    mask = group.mask(window, query.dtype)
    if not group.decodes:
        queries = queries.permute(1, 2, 0, 3)
        keys, values = (tensor[0][:, None].expand(-1, share, -1, -1) for tensor in (keys, values))
    seen = torch.nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=mask, scale=scaling
    )
    return (seen if group.decodes else seen.permute(2, 0, 1, 3)).reshape(query.shape)


AttentionInterface.register(NAME, block_attention)
