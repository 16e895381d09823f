"""Moves a model's weights into secret memory, so that core dumps, swap and other processes miss them."""

import torch
from torch import nn

from ..memory import PROTECTED, Kind, MemoryUnavailable, SecretMemory

_ALIGNMENT = 64


def keep_in_secret_memory(
    model: nn.Module, kinds: tuple[Kind, ...] = PROTECTED
) -> tuple[SecretMemory | None, str]:
    """The memory that now holds the model's parameters and buffers, and what kind of memory it is.

    Tensors on another device than the CPU stay there, and (None, "device") says so; where the kernel
    grants no protected memory of that size the tensors stay where they are: (None, "ordinary").
    The memory must outlive the model. What loading has left in freed memory is not erased.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return None, "device"
    shared = {tensor.data_ptr(): tensor for tensor in tensors if tensor.numel()}
    places: dict[int, int] = {}
    size = 0
    for pointer, tensor in shared.items():
        places[pointer] = size
        size += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    try:
        memory = SecretMemory(size, kinds=kinds)
    except MemoryUnavailable:
        return None, "ordinary"
    for tensor in tensors:
        if tensor.numel():
            tensor.data = _moved(tensor, memory.buffer[places[tensor.data_ptr()] :])
    return memory, str(memory.kind)


def _moved(tensor: torch.Tensor, place: memoryview) -> torch.Tensor:
    """A tensor of the same values at `place`; tied tensors end in the same place."""
    copy = torch.frombuffer(place[: tensor.nbytes], dtype=tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor.detach())
