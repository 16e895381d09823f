"""One forward pass over a step's plan, and the check that it computes what the model itself computes."""

from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedModel

from . import attention
from .interface import EngineOptions, GenerationRequest, ModelRefused, Sampling
from .kv import KvArena
from .plan import StepPlan
from .sequences import Piece, Sequence

_PROBE_TOKENS = 24
_LONGEST_PROBE = 2048
# Largest difference of the probe's logits, relative to the largest logit.
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def make_arena(model: PreTrainedModel, options: EngineOptions) -> KvArena:
    """Key-value memory in the shape that the model's configuration states. Raises ModelRefused without room
    for it.
    """
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    try:
        return KvArena(
            layers=config.num_hidden_layers,
            blocks=options.kv_tokens // options.block_tokens,
            block_tokens=options.block_tokens,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            dtype=model.dtype,
            device=model.device,
        )
    except RuntimeError:  # torch's word for memory that is not there, on a device or on the host
        raise ModelRefused(
            f"{model.device} has no room for {options.kv_tokens} key-value tokens: lower kv_tokens"
        ) from None


def sliding_window(config: Any) -> int | None:
    """The window that some layer of a model attends within, or None."""
    window: int | None = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None)
    return window if kinds is None or "sliding_attention" in kinds else None


class ForwardPass:
    """The model with its attention replaced by `attention`; logits only for the rows that are sampled.

    Building it runs a probe through the model's own attention and through ours; if they differ, or the
    architecture never calls ours, ModelRefused is raised.
    """

    def __init__(self, model: PreTrainedModel, arena: KvArena) -> None:
        self._model = model
        self._arena = arena
        self._rows: torch.Tensor | None = None
        head = model.get_output_embeddings()
        if head is None:
            raise ModelRefused("the model has no output embeddings: it is not a causal language model")
        probe = self._probe_ids()
        expected = self._own_logits(probe)
        head.register_forward_pre_hook(self._keep_rows)
        try:
            model.set_attn_implementation(attention.NAME)
            found = self._block_logits(probe)
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise ModelRefused(
                f"{type(model).__name__} does not take attention from outside: {error}"
            ) from error
        scale = expected.abs().max()
        if not bool((found - expected).abs().max() <= _TOLERANCE[model.dtype] * scale):
            raise ModelRefused(
                f"{type(model).__name__} computes something that this engine's attention does not: "
                "its tokens would differ from the model's own"
            )

    @torch.inference_mode()
    def __call__(self, plan: StepPlan) -> torch.Tensor:
        """Logits [sampled rows, vocabulary]."""
        self._rows = plan.last_rows
        try:
            output = self._model(
                input_ids=plan.input_ids[:, None],
                position_ids=plan.positions[:, None],
                use_cache=False,
                plan=plan,
            )
        finally:
            self._rows = None
        if plan.calls != self._arena.layers:
            raise ModelRefused(
                f"{type(self._model).__name__} keeps its past elsewhere than in attention: not supported"
            )
        logits: torch.Tensor = output.logits[:, 0]
        return logits

    def _keep_rows(
        self, _module: torch.nn.Module, args: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        return args if self._rows is None else (args[0][self._rows], *args[1:])

    def _probe_ids(self) -> list[int]:
        """Token ids, enough of them to leave a sliding window unless it is too wide to try."""
        config = self._model.config.get_text_config()
        beyond = (sliding_window(config) or 0) + 8
        length = max(_PROBE_TOKENS, beyond) if beyond <= _LONGEST_PROBE else _PROBE_TOKENS
        room = min(config.max_position_embeddings, self._arena.tokens)
        return [(7 * at + 1) % config.vocab_size for at in range(min(length, room))]

    @torch.inference_mode()
    def _own_logits(self, ids: list[int]) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self._model.device)
        logits: torch.Tensor = self._model(input_ids=tokens, use_cache=False).logits[0, -1]
        return logits

    def _block_logits(self, ids: list[int]) -> torch.Tensor:
        """The last logits when the ids are read as two pieces and one decoded token."""
        request = GenerationRequest(
            id="probe", prompt=tuple(ids), sampling=Sampling(), max_tokens=1, eos=frozenset()
        )
        blocks = list(range(1, -(-len(ids) // self._arena.block_tokens) + 1))
        sequence = Sequence(request, 0.0, blocks=blocks)
        last = len(ids) - 1
        cuts = sorted({0, last // 2, last, len(ids)})
        try:
            for start, stop in pairwise(cuts):
                plan = StepPlan([Piece(sequence, start, stop - start)], self._arena)
                logits = self(plan)
        finally:
            self._arena.erase(blocks)
        window = sliding_window(self._model.config.get_text_config())
        if window is not None and window not in plan.windows:
            raise ModelRefused(f"{type(self._model).__name__} hides its sliding window from attention")
        return logits[0]
