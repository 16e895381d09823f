"""Directories, keys and sealed artifacts as tests need them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save_file

from client.artifacts.keys import new_data_key, new_owner_key, read_owner_key
from client.artifacts.seal import Sealed, SealOrder, seal
from sealing.artifact import Kind, ReleasedSecret, SignedManifest

OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DATA_KEY = bytes(range(100, 132))
NEVER = 1 << 40
SMALL = 4096
DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FRACTIONS = ("float16", "float32", "float64", "complex64")


def make_model(directory: Path, *, seed: int = 1) -> Path:
    """A model's directory: configuration and safetensors of many dtypes and shapes, none of them usable."""
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    shapes = [(), (0, 3), (1,), (7,), (3, 5), (2, 3, 4), (1000,), (33, 65)]
    tensors = {
        f"{dtype}.{'x'.join(map(str, shape)) or 'scalar'}": np.asarray(random.random(shape) * 100, dtype)
        for dtype in DTYPES + FRACTIONS
        for shape in shapes
    }
    save_file(tensors, directory / "model-00001-of-00002.safetensors")
    save_file({"last": random.random(5000)}, directory / "model-00002-of-00002.safetensors")
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "seed": seed}))
    (directory / "tokenizer.json").write_text("")
    (directory / "README.md").write_text("not sealed")
    return directory


def order(directory: Path, **changes: object) -> SealOrder:
    """An order for `directory` as a model, in small chunks."""
    made = SealOrder(
        directory=directory,
        kind=Kind.MODEL,
        name="made",
        owner=OWNER,
        data_key=DATA_KEY,
        chunk_size=SMALL,
        demo=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def sealed_model(directory: Path, **changes: object) -> Sealed:
    """`directory`/plain sealed to `directory`/sealed."""
    plain = make_model(directory / "plain")
    return seal(order(plain, **changes), directory / "sealed")


def secret_for(signed: SignedManifest, **changes: object) -> ReleasedSecret:
    """What a broker would release for it."""
    made = ReleasedSecret(
        key=DATA_KEY, manifest=signed.hash, owner=signed.manifest.owner.hash, not_after=NEVER
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def plain_files(directory: Path) -> dict[str, bytes]:
    """What a sealed model of this directory holds."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.name != "README.md"}


def owned_pages(folder: Path) -> Path:
    """`folder`, with what an owner has: owner.pem, data.key, and documents sealed with them in `sealed`."""
    (folder / "plain").mkdir()
    (folder / "plain" / "page.txt").write_text("a page that somebody owns")
    new_owner_key(folder / "owner.pem")
    data_key = new_data_key(folder / "data.key")
    owner = read_owner_key(folder / "owner.pem")
    pages = order(folder / "plain", kind=Kind.DOCUMENTS, name="pages", owner=owner, data_key=data_key)
    seal(pages, folder / "sealed")
    return folder
