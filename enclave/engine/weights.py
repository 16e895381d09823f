"""Moves a model's weights into secret memory, so that core dumps, swap and other processes miss them."""

from collections.abc import Iterable

import torch
from torch import nn

from ..memory import PROTECTED, Kind, SecretMemory
from .interface import ModelRefused

_ALIGNMENT = 64


def keep_in_secret_memory(
    model: nn.Module,
    kinds: tuple[Kind, ...] = (*PROTECTED, Kind.UNLOCKED),
    *,
    beside: Iterable[torch.Tensor] = (),
) -> tuple[SecretMemory, ...]:
    """The memory that now holds the model's parameters, but for those that share storage with `beside`.

    Empty if there was nothing to move. The memory must outlive the model. What loading has left in freed
    memory is not erased. Raises MemoryUnavailable.
    """
    settled = {tensor.untyped_storage().data_ptr() for tensor in beside}
    moving = [p for p in model.parameters() if p.numel() and p.untyped_storage().data_ptr() not in settled]
    shared = {tensor.data_ptr(): tensor for tensor in moving}
    if not shared:
        return ()
    if any(tensor.device.type != "cpu" for tensor in moving):
        raise ModelRefused("weights on a device cannot be moved into the host's memory")
    places: dict[int, int] = {}
    size = 0
    for pointer, tensor in shared.items():
        places[pointer] = size
        size += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    memory = SecretMemory(size, kinds=kinds)
    for tensor in moving:
        tensor.data = _moved(tensor, memory.buffer[places[tensor.data_ptr()] :])
    return (memory,)


def _moved(tensor: torch.Tensor, place: memoryview) -> torch.Tensor:
    """A tensor of the same values at `place`; tied tensors end in the same place."""
    copy = torch.frombuffer(place[: tensor.nbytes], dtype=tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor.detach())
