"""LoRA in a batch: each row of a step through its own adapter, or none.

The matrices of all resident adapters lie in one tensor [slots, floats of one adapter], padded to one rank.
Those that decoding rows use are kept at its beginning, so one batched product a matrix serves all of them,
whoever they are, without gathering anything. Pieces of prompts are multiplied one by one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ..memory import SecretMemory
from .adapter_files import Layer
from .interface import ModelRefused
from .tensors import ANYWHERE

_Pair = tuple[torch.Tensor, torch.Tensor]


class LoraLinear(nn.Linear):
    """A linear layer to which a step's adapters add. Layers become one in place, by `Slots.attach`."""

    switch: "Switch"
    path: str

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As nn.Linear; rows are the first axis of `input` [tokens, 1, inputs] while adapters are on."""
        output = functional.linear(input, self.weight, self.bias)
        if self.switch.routing is not None:
            self.switch.routing.add(self.path, input, output)
        return output


class Switch:
    """What the layers of one model look at: the routing of the step that runs, None without adapters."""

    routing: "Routing | None" = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a slot keeps the matrices of which layers, all padded to `rank`."""

    rank: int
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        return sum(self.rank * (layer.inputs + layer.outputs) for layer in self.layers)

    def views(self, store: torch.Tensor) -> dict[str, _Pair]:
        """Every slot's matrices by layer: down [slots, rank, inputs], up [slots, rank, outputs]."""
        found, at, slots = {}, 0, store.shape[0]
        for layer in self.layers:
            middle = at + self.rank * layer.inputs
            end = middle + self.rank * layer.outputs
            down = store[:, at:middle].view(slots, self.rank, layer.inputs)
            found[layer.path] = (down, store[:, middle:end].view(slots, self.rank, layer.outputs))
            at = end
        return found


class Slots:
    """Resident adapters' matrices, in secret memory if the device is the CPU."""

    def __init__(self, layout: Layout, count: int, dtype: torch.dtype, device: torch.device) -> None:
        self.layout = layout
        self.count = count
        self._memory: SecretMemory | None = None
        if device.type == "cpu":
            self._memory = SecretMemory(max(1, count * layout.size * dtype.itemsize), kinds=ANYWHERE)
            flat = torch.frombuffer(self._memory.buffer, dtype=dtype, count=count * layout.size)
            self._store = flat.view(count, layout.size)
        else:
            self._store = torch.zeros((count, layout.size), dtype=dtype, device=device)
        self.views = layout.views(self._store)
        self._firsts: dict[int, dict[str, _Pair]] = {}

    @property
    def bytes(self) -> int:
        """What the slots take."""
        return self._store.nbytes

    def first(self, count: int) -> dict[str, _Pair]:
        """The matrices of the first slots, as batched products take them: down [count, inputs, rank]."""
        if count not in self._firsts:
            self._firsts[count] = {
                path: (down[:count].transpose(1, 2), up[:count]) for path, (down, up) in self.views.items()
            }
        return self._firsts[count]

    def take_over(self, other: "Slots") -> None:
        """Copy what smaller slots of the same layout hold."""
        self._store[: other.count] = other._store

    def write(self, slot: int, matrices: Mapping[str, _Pair]) -> None:
        """Put one adapter's matrices into a slot; layers that it leaves alone are zero."""
        self._store[slot].zero_()
        for path, (down, up) in matrices.items():
            for view, matrix in zip(self.views[path], (down, up), strict=True):
                view[slot, : matrix.shape[0]] = matrix

    def swap(self, one: int, other: int) -> None:
        """Exchange two slots."""
        if one != other:
            self._store[[one, other]] = self._store[[other, one]]

    def erase(self, slot: int) -> None:
        """Overwrite a slot."""
        self._store[slot].zero_()


class Routing:
    """One step's rows by adapter: pieces of prompts, and decoding rows over the first `groups` slots."""

    def __init__(
        self,
        slots: Slots,
        tokens: int,
        pieces: Iterable[tuple[int, slice]],
        rows: list[list[int]],
        device: torch.device,
    ) -> None:
        """`pieces` are (slot, rows); `rows` are the decoding rows of slot 0, 1, ... with none left out."""
        self._shape = (tokens, 1)
        self._views = slots.views
        self._pieces = list(pieces)
        self._groups = len(rows)
        self._seen: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        if not rows:
            return
        self._firsts = slots.first(self._groups)
        width = max(len(group) for group in rows)
        padded = [group + [group[0]] * (width - len(group)) for group in rows]
        self._rows = torch.tensor(padded, device=device).flatten()
        real = [at * width + column for at, group in enumerate(rows) for column in range(len(group))]
        self._real = None if len(real) == len(self._rows) else torch.tensor(real, device=device)
        self._targets = self._rows if self._real is None else self._rows[self._real]

    def add(self, path: str, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Add what the adapters make of `inputs` [tokens, 1, inputs] to `outputs` [tokens, 1, outputs].

        Raises ModelRefused if the layer is given other rows than the step's, as experts of a mixture are.
        """
        if path not in self._views:
            return
        if inputs.shape[:-1] != self._shape:
            raise ModelRefused(f"layer {path} does not see every row of a step: adapters cannot change it")
        found = outputs[:, 0]
        for slot, rows in self._pieces:
            down, up = self._views[path]
            found[rows].addmm_(inputs[rows, 0] @ down[slot].t(), up[slot])
        if self._groups:
            down, up = self._firsts[path]
            added = torch.bmm(torch.bmm(self._mine(inputs), down), up).view(-1, found.shape[1])
            if self._real is not None:
                added = added.index_select(0, self._real)
            found.index_add_(0, self._targets, added)

    def _mine(self, inputs: torch.Tensor) -> torch.Tensor:
        """The decoding rows by slot [groups, rows, inputs]. Neighbouring layers often read the same input."""
        before, mine = self._seen
        if before is not inputs or mine is None:
            mine = inputs[:, 0].index_select(0, self._rows).view(self._groups, -1, inputs.shape[-1])
            self._seen = (inputs, mine)
        return mine


def attach(model: nn.Module, head: nn.Module | None, switch: Switch) -> dict[str, Layer]:
    """Make every linear layer but the head a `LoraLinear`; the layers by path."""
    layers = {}
    for path, module in model.named_modules():
        if type(module) is nn.Linear and module is not head:
            module.__class__ = LoraLinear
            module.switch, module.path = switch, path  # type: ignore[assignment]
            layers[path] = Layer(path, module.in_features, module.out_features)
    return layers
