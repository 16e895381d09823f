"""Adapters by name: all of them sealed in host memory, a bounded number resident where the model computes.

Sealed means AES-256-GCM under a key that lives as long as the process, in secret memory. A step's adapters
are brought in when it needs them; the longest unused give way, never one that the step uses.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from transformers import PreTrainedModel

from ..files import ModelFiles
from ..memory import SecretMemory
from .adapter_files import AdapterFiles, Layer, read_adapter
from .interface import EngineError, EngineOptions, UnknownAdapter
from .lora import Layout, Routing, Slots, Switch, attach
from .plan import StepPlan
from .tensors import ANYWHERE

_KEY_BYTES = 32
_NONCE_BYTES = 12
_FEWEST_SLOTS = 4


@dataclass(frozen=True, slots=True)
class _Sealed:
    """One adapter at rest: per layer its path and rank, and the ciphertext of down and up in this order."""

    nonce: bytes
    shapes: tuple[tuple[Layer, int], ...]
    content: bytes = field(repr=False)


class AdapterSet:
    """Adapters of one model. `switched` counts how often one was brought in."""

    def __init__(self, model: PreTrainedModel, options: EngineOptions) -> None:
        self._options = options
        self._dtype, self._device = model.dtype, model.device
        self.switch = Switch()
        self._layers = attach(model, model.get_output_embeddings(), self.switch)
        self._key = SecretMemory(_KEY_BYTES, kinds=ANYWHERE)
        self._key.fill_random()
        self._clear: SecretMemory | None = None
        self._sealings = 0
        self._sealed: dict[str, _Sealed] = {}
        self._slots: Slots | None = None
        self._order: list[str] = []  # who is in slot 0, 1, ...
        self._used: dict[str, int] = {}
        self._clock = 0
        self.switched = 0

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._sealed)

    @property
    def resident(self) -> int:
        """How many are on the device."""
        return len(self._order)

    @property
    def resident_bytes(self) -> int:
        """Memory of the slots on the device, used or not."""
        return 0 if self._slots is None else self._slots.bytes

    def refresh(self) -> None:
        """Bring everybody who is resident in anew."""
        for place, name in enumerate(self._order):
            if self._slots is not None:
                self._open(name, self._slots, place)

    def erase(self) -> None:
        """Overwrite resident adapters and the key of the others."""
        if self._slots is not None:
            for place in range(self._slots.count):
                self._slots.erase(place)
        self._order.clear()
        self._key.close()

    def load(self, name: str, files: ModelFiles) -> None:
        """Read, check and seal a LoRA adapter under `name`.

        Raises ModelRefused for its files, EngineError for a name in use or one adapter too many.
        """
        if name in self._sealed:
            raise EngineError(f"an adapter named {name!r} is loaded already: unload it first")
        if len(self._sealed) >= self._options.max_adapters:
            limit = self._options.max_adapters
            raise EngineError(f"{limit} adapters are loaded, the most that max_adapters allows")
        read = read_adapter(files, self._layers, dtype=self._dtype, max_rank=self._options.max_rank)
        self._sealed[name] = self._seal(name, read)
        self._provide(read)

    def unload(self, name: str) -> None:
        """Give up an adapter's weights. Raises UnknownAdapter."""
        if name not in self._sealed:
            raise UnknownAdapter(f"no adapter named {name!r} is loaded")
        del self._sealed[name]
        self._used.pop(name, None)
        if self._slots is not None and name in self._order:
            self._move(name, len(self._order) - 1)
            self._slots.erase(len(self._order) - 1)
            self._order.pop()

    @contextlib.contextmanager
    def routed(self, plan: StepPlan) -> Iterator[None]:
        """Within it the model's rows go through their adapters."""
        self.switch.routing = self.route(plan)
        try:
            yield
        finally:
            self.switch.routing = None

    def route(self, plan: StepPlan) -> Routing | None:
        """How the rows of a step go through their adapters, which are resident then; None if all are base."""
        if not plan.adapted:
            return None
        self._clock += 1
        needed = dict.fromkeys(name for name, _ in plan.adapted)
        self._bring_in(list(needed))
        decoding: dict[str, list[int]] = {}
        for name, rows in plan.adapted:
            if rows.stop - rows.start == 1:
                decoding.setdefault(name, []).append(rows.start)
        for place, name in enumerate(self._compact(decoding)):
            self._move(name, place)
        assert self._slots is not None  # `_bring_in` has made them  # noqa: S101
        where = {name: slot for slot, name in enumerate(self._order)}
        pieces = [(where[name], rows) for name, rows in plan.adapted if rows.stop - rows.start > 1]
        rows_of = [decoding[name] for name in self._order[: len(decoding)]]
        return Routing(self._slots, len(plan.positions), pieces, rows_of, self._device)

    def _compact(self, wanted: dict[str, list[int]]) -> list[str]:
        """The order of the first slots: those in place already stay where they are."""
        first = self._order[: len(wanted)]
        newcomers = iter([name for name in wanted if name not in first])
        return [name if name in wanted else next(newcomers) for name in first]

    def _bring_in(self, names: list[str]) -> None:
        for name in names:
            self._used[name] = self._clock
        missing = [name for name in names if name not in self._order]
        if not missing:
            return
        slots = self._with_room(len(self._order) + len(missing))
        for name in [name for name in names if name not in self._order]:
            place = len(self._order)
            if place == slots.count:
                oldest = min((n for n in self._order if n not in names), key=lambda n: self._used.get(n, 0))
                place = self._order.index(oldest)
            try:
                self._open(name, slots, place)
            except BaseException:
                self._order.clear()  # the slot may hold half of it: all are brought in anew
                raise
            self._order[place : place + 1] = [name]
            self.switched += 1

    def _with_room(self, count: int) -> Slots:
        """Slots for so many, up to the limit;"""
        slots = self._slots
        if slots is None:
            raise EngineError("no adapter is loaded")
        wanted = min(max(_FEWEST_SLOTS, 1 << (count - 1).bit_length()), self._options.resident_adapters)
        if wanted > slots.count:
            slots = self._make(slots.layout, wanted)
        return slots

    def _provide(self, read: AdapterFiles) -> None:
        """Make the slots' layout one that this adapter fits, too."""
        layout = self._slots.layout if self._slots is not None else Layout(0, ())
        known = {layer.path for layer in layout.layers}
        if read.rank <= layout.rank and read.matrices.keys() <= known:
            return
        layers = tuple(layer for path, layer in self._layers.items() if path in known | read.matrices.keys())
        count = self._slots.count if self._slots is not None else _FEWEST_SLOTS
        self._make(Layout(max(read.rank, layout.rank), layers), min(count, self._options.resident_adapters))

    def _make(self, layout: Layout, count: int) -> Slots:
        before, self._slots = self._slots, Slots(layout, count, self._dtype, self._device)
        if before is not None and before.layout == layout:
            self._slots.take_over(before)
        else:
            self._order.clear()
        return self._slots

    def _move(self, name: str, place: int) -> None:
        at = self._order.index(name)
        if at != place and self._slots is not None:
            self._slots.swap(at, place)
            self._order[at], self._order[place] = self._order[place], name

    def _seal(self, name: str, read: AdapterFiles) -> _Sealed:
        shapes = tuple((self._layers[path], one.down.shape[0]) for path, one in read.matrices.items())
        self._sealings += 1
        nonce = self._sealings.to_bytes(_NONCE_BYTES, "big")
        with self._in_the_clear(shapes) as clear:
            for (down, up), one in zip(_cut(clear, shapes, self._dtype), read.matrices.values(), strict=True):
                down.copy_(one.down)
                up.copy_(one.up)
            content = AESGCM(self._key.buffer).encrypt(nonce, clear, name.encode())
        return _Sealed(nonce, shapes, content)

    def _open(self, name: str, slots: Slots, place: int) -> None:
        sealed = self._sealed[name]
        with self._in_the_clear(sealed.shapes) as clear:
            AESGCM(self._key.buffer).decrypt_into(sealed.nonce, sealed.content, name.encode(), clear)
            pairs = _cut(clear, sealed.shapes, self._dtype)
            slots.write(
                place, {layer.path: pair for (layer, _), pair in zip(sealed.shapes, pairs, strict=True)}
            )

    @contextlib.contextmanager
    def _in_the_clear(self, shapes: tuple[tuple[Layer, int], ...]) -> Iterator[memoryview]:
        """Secret memory for one adapter, wiped afterwards."""
        size = _size(shapes) * self._dtype.itemsize
        if self._clear is None or len(self._clear) < size:
            self._clear = SecretMemory(size, kinds=ANYWHERE)
        try:
            yield self._clear.buffer[:size]
        finally:
            self._clear.wipe(0, size)


def _size(shapes: tuple[tuple[Layer, int], ...]) -> int:
    return sum(rank * (layer.inputs + layer.outputs) for layer, rank in shapes)


def _cut(
    memory: memoryview, shapes: tuple[tuple[Layer, int], ...], dtype: torch.dtype
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The memory as down [rank, inputs] and up [rank, outputs] of one layer after the other."""
    flat, at = torch.frombuffer(memory, dtype=dtype), 0
    for layer, rank in shapes:
        pair = []
        for width in (layer.inputs, layer.outputs):
            pair.append(flat[at : at + math.prod((rank, width))].view(rank, width))
            at += rank * width
        yield pair[0], pair[1]
