"""What sealing costs: a sealed model's load beside a plain one's, sealing, and switching adapters.

Loads are of one 256 MiB safetensors file in the page cache, interleaved, the best of all rounds; by CPU time
of the process and by the wall. Three destinations:

- the worker's: fresh secret memory, through the engine's own loader, from a plain directory and a sealed one;
- fresh ordinary memory: the same sealed load beside safetensors' own reading and copying;
- a reused arena: bytes into memory that is mapped already, where AES-GCM stands beside a bare memcpy.

    python -m benchmarks.weights [--rounds N] [--json FILE]
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.report import Figure, at_least, at_most, parser, publish
from client.artifacts.seal import SealOrder, seal
from client.artifacts.verify import read_manifest
from enclave.artifacts.sealed_files import SealedFiles
from enclave.artifacts.stores import DirectoryStore
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import EngineOptions
from enclave.engine.tensors import load_tensors
from enclave.files import DirectoryFiles, ModelFiles
from enclave.memory import Kind as Memory
from enclave.memory import SecretMemory
from sealing.artifact import Kind, ReleasedSecret

WEIGHTS = "model.safetensors"
TENSORS, SIDE = 4, 4096
KEY = bytes(range(32))
FAQ = Path(__file__).resolve().parents[1] / "models" / "faq"
Work = Callable[[], object]


@dataclass(slots=True)
class Spent:
    """Least seconds seen."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def add(self, work: Work) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, time.process_time() - cpu)


def interleaved(rounds: int, works: dict[str, Work]) -> dict[str, Spent]:
    """Each in turn, `rounds` times after a first that does not count."""
    spent = {name: Spent() for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            spent[name].add(work)
    return spent


def order(directory: Path, kind: Kind, base: bytes | None = None) -> SealOrder:
    """An order for a throw-away owner."""
    owner = Ed25519PrivateKey.from_private_bytes(KEY)
    return SealOrder(directory=directory, kind=kind, name="bench", owner=owner, data_key=KEY, base=base)


def opened(directory: Path) -> SealedFiles:
    """A sealed directory's files, released."""
    signed = read_manifest(directory)
    owner = signed.manifest.owner.hash
    secret = ReleasedSecret(key=KEY, manifest=signed.hash, owner=owner, not_after=1 << 40)
    return SealedFiles(DirectoryStore(directory), signed, secret, 0)


def loads(plain: Path, sealed: Path, rounds: int) -> list[Figure]:
    """Load ratios into the three destinations."""
    size = (plain / WEIGHTS).stat().st_size
    arena = SecretMemory(size, kinds=(Memory.UNLOCKED,))
    tensor = torch.frombuffer(arena.buffer, dtype=torch.uint8)

    def engine(files: ModelFiles, kinds: tuple[Memory, ...] | None) -> None:
        more = {} if kinds is None else {"kinds": kinds}
        found = load_tensors(files, [WEIGHTS], dtype=torch.float32, **more)
        if found.memory is not None:
            found.memory.close()

    def unsealed(kinds: tuple[Memory, ...] | None) -> None:
        with opened(sealed) as files:
            engine(files, kinds)

    def fresh_copy() -> dict[str, torch.Tensor]:
        with safe_open(plain / WEIGHTS, "pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118

    def arena_copy() -> None:
        with safe_open(plain / WEIGHTS, "pt") as file:
            at = 0
            for name in file.keys():  # noqa: SIM118
                found = file.get_tensor(name).view(torch.uint8).flatten()
                tensor[at : at + len(found)].copy_(found)
                at += len(found)

    def arena_sealed() -> None:
        with opened(sealed) as files:
            files.fill(WEIGHTS, 0, arena.buffer)

    ordinary = (Memory.UNLOCKED,)
    spent = interleaved(
        rounds,
        {
            "plain": lambda: engine(DirectoryFiles(plain), None),
            "sealed": lambda: unsealed(None),
            "copy": fresh_copy,
            "sealed fresh": lambda: unsealed(ordinary),
            "arena copy": arena_copy,
            "arena sealed": arena_sealed,
        },
    )
    figures = []
    for name, ours, theirs in (
        ("as the worker loads, beside a plain directory", "sealed", "plain"),
        ("fresh memory, beside a safetensors copy", "sealed fresh", "copy"),
        ("reused arena, beside a safetensors copy", "arena sealed", "arena copy"),
    ):
        a, b = spent[ours], spent[theirs]
        figures.append(at_least(f"sealed load, {name}: CPU", b.cpu / a.cpu, "ratio", 0.9))
        figures.append(at_least(f"sealed load, {name}: wall", b.wall / a.wall, "ratio", 1.0))
    figures.append(at_most("sealed load into an arena", size / spent["arena sealed"].wall / 1e9, "GB/s"))
    return figures


def sealing(plain: Path, out: Path, rounds: int) -> Figure:
    """Sealing: read, hash, encrypt, hash, write. To a disk of this machine."""
    size = (plain / WEIGHTS).stat().st_size
    best = Spent()
    for number in range(min(rounds, 3)):
        best.add(lambda number=number: seal(order(plain, Kind.MODEL), out / f"again{number}"))  # type: ignore[misc]
    return at_most("sealing", size / best.wall / 1e9, "GB/s")


def switching(directory: Path, rounds: int) -> list[Figure]:
    """An adapter of the shipped model: loaded and unloaded, plain and sealed."""
    plain = FAQ / "adapters" / "sailor"
    seal(order(plain, Kind.ADAPTER, bytes(32)), directory / "adapter")
    engine = EmbeddedEngine.load(DirectoryFiles(FAQ / "model"), EngineOptions(kv_tokens=512, threads=1))

    def switch(files: ModelFiles) -> None:
        engine.load_adapter("sailor", files)
        engine.unload_adapter("sailor")

    def from_sealed() -> None:
        with opened(directory / "adapter") as files:
            switch(files)

    spent = interleaved(rounds, {"plain": lambda: switch(DirectoryFiles(plain)), "sealed": from_sealed})
    ratio = spent["sealed"].wall / spent["plain"].wall
    return [
        at_most("adapter loaded and unloaded, sealed", spent["sealed"].wall * 1e3, "ms"),
        at_most("adapter loaded and unloaded, sealed over plain: wall", ratio, "ratio"),
    ]


def main() -> None:
    """Measure and publish."""
    arguments = parser(__doc__ or "", rounds=7).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="cloister-weights-") as folder:
        plain, sealed = Path(folder) / "plain", Path(folder) / "sealed"
        plain.mkdir()
        save_file({f"t{n}": torch.randn(SIDE, SIDE) for n in range(TENSORS)}, plain / WEIGHTS)
        (plain / "config.json").write_text("{}")
        seal(order(plain, Kind.MODEL), sealed)
        figures = loads(plain, sealed, arguments.rounds)
        figures.append(sealing(plain, Path(folder), arguments.rounds))
        figures += switching(Path(folder), arguments.rounds)
    publish("weights", figures, arguments.json)


if __name__ == "__main__":
    main()
