"""The formats of artifacts: layout, tree, chunks, manifest. Fixed vectors, strict parsers, named errors."""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing import cose
from sealing.artifact import (
    ChunkOpener,
    FileEntry,
    Kind,
    Layout,
    Manifest,
    ReleasedSecret,
    Run,
    RunCipher,
    SignedManifest,
    Tree,
    content_root,
    key_commitment,
    leaf,
)
from sealing.artifact.contents import is_path
from sealing.errors import (
    ChunkRefused,
    MalformedDocument,
    ManifestRefused,
    SealingError,
    SecretExpired,
    SignatureRefused,
    WrongKey,
)
from tests.artifacts.made import DATA_KEY, OTHER, OWNER

ID, RUN, RUN2 = b"i" * 16, b"r" * 32, b"s" * 32
FILES = (FileEntry("config.json", 5000), FileEntry("model.safetensors", 8192), FileEntry("tokenizer.json", 0))
P384 = ec.derive_private_key(77, ec.SECP384R1())
MANIFEST = Manifest(
    id=ID,
    name="a model",
    version=3,
    kind=Kind.MODEL,
    created=1_700_000_000,
    owner=cose.Signer.of(OWNER),
    chunk_size=4096,
    files=FILES,
    runs=(Run(RUN, 2), Run(RUN2, 3)),
    tree=b"t" * 32,
    root=b"p" * 32,
    commitment=key_commitment(DATA_KEY, ID),
)
VECTOR_PAYLOAD = (
    '{"chunk_size":4096,"commitment":"COMMITMENT","created":1700000000,"demo":false,'
    '"files":[{"path":"config.json","size":5000},{"path":"model.safetensors","size":8192},'
    '{"path":"tokenizer.json","size":0}],"format":"cloister/artifact/v1","id":"aWlpaWlpaWlpaWlpaWlpaQ",'
    '"kind":"model","name":"a model","owner":"MCowBQYDK2VwAyEAA6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",'
    '"root":"cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA",'
    '"runs":[{"chunks":2,"id":"cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI"},'
    '{"chunks":3,"id":"c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M"}],'
    '"tree":"dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHR0dHQ","version":3}'
)
COMMITMENT = "qpaUlUsU9Mr6JYNC-tDgF3fzjtYcBgyO_ts2Waub1fs"


def secret(signed: SignedManifest, **changes: Any) -> ReleasedSecret:
    made = ReleasedSecret(key=DATA_KEY, manifest=signed.hash, owner=cose.Signer.of(OWNER).hash, not_after=100)
    return replace(made, **changes)


def test_a_layout_puts_chunks_end_to_end() -> None:
    layout = Layout(FILES, 4096)
    chunks = list(layout)
    assert [(c.path, c.index, c.count, c.start, c.size, c.offset, c.final) for c in chunks] == [
        ("config.json", 0, 2, 0, 4096, 0, False),
        ("config.json", 1, 2, 4096, 904, 4112, False),
        ("model.safetensors", 0, 2, 0, 4096, 5032, False),
        ("model.safetensors", 1, 2, 4096, 4096, 9144, False),
        ("tokenizer.json", 0, 1, 0, 0, 13256, True),
    ]
    assert (layout.chunks, layout.plaintext, layout.ciphertext) == (5, 13192, 13272)
    assert layout.of("model.safetensors") == range(2, 4)


@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=20),
    st.sampled_from([4096, 5000, 65536]),
)
def test_layouts_have_no_gaps(sizes: list[int], chunk_size: int) -> None:
    layout = Layout([FileEntry(f"{n:03}", size) for n, size in enumerate(sizes)], chunk_size)
    end = 0
    for counter, chunk in enumerate(layout):
        assert chunk == layout.chunk(counter) and chunk.counter == counter and chunk.offset == end
        assert layout.at(end) == layout.at(end + chunk.length - 1) == counter
        end += chunk.length
    assert end == layout.ciphertext and layout.plaintext == sum(sizes)
    assert [chunk.final for chunk in layout] == [False] * (layout.chunks - 1) + [True]


# RFC 6962's tree hash, as certificate transparency's own tests have it.
CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_tree_is_rfc_6962s() -> None:
    tree = Tree()
    assert tree.root == hashlib.sha256().digest()
    for content, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        tree.add(leaf(bytes.fromhex(content)))
        assert tree.root.hex() == root


def test_a_chunk_is_what_the_specification_says() -> None:
    """Sealed by the code, opened by the specification's formulas, spelled out."""
    for chunk in Layout(FILES, 4096):
        plaintext, sealed = bytes(chunk.size), bytearray(chunk.length)
        RunCipher(DATA_KEY, ID, RUN).seal_into(chunk, plaintext, sealed)
        key = HKDF(SHA256(), 32, RUN, b"cloister/artifact-run/v1" + ID).derive(DATA_KEY)
        path = chunk.path.encode()
        associated = (
            b"cloister/artifact-chunk/v1"
            + (b"\0\0\0\x10" + ID + b"\0\0\0\x20" + RUN + bytes([0, 0, 0, len(path)]) + path)
            + (bytes(7) + bytes([chunk.index]) + bytes(7) + bytes([chunk.count]) + bytes([chunk.final]))
        )
        nonce = bytes(11) + bytes([chunk.counter])
        assert AESGCM(key).decrypt(nonce, bytes(sealed), associated) == plaintext
    commitment = HKDF(SHA256(), 32, b"", b"cloister/key-commitment/v1" + ID).derive(DATA_KEY)
    assert key_commitment(DATA_KEY, ID) == commitment


def test_fixed_vectors() -> None:
    sealed = bytearray(20)
    chunk = next(iter(Layout([FileEntry("a", 4)], 4096)))
    RunCipher(DATA_KEY, ID, RUN).seal_into(chunk, b"text", sealed)
    assert sealed.hex() == "a3a4c90deee8685b64439bf1f1af7c0b3ae7dd71"
    payload = VECTOR_PAYLOAD.replace("COMMITMENT", COMMITMENT)
    assert MANIFEST.to_payload() == payload.encode()
    assert (
        hashlib.sha256(MANIFEST.sign(OWNER)).hexdigest()
        == "7b00cf24d847ec77d55a1bf30b06a68c21b56f156e2e21aac7b7b341b01a7e36"
    )
    assert (
        content_root({"b": bytes(32), "a": b"\1" * 32})
        == hashlib.sha256(f'[["a","{"01" * 32}"],["b","{"00" * 32}"]]'.encode()).digest()
    )


@pytest.mark.parametrize("change", ["counter", "path", "index", "count", "final", "run", "artifact", "key"])
def test_a_chunk_opens_only_in_its_place(change: str) -> None:
    chunk = Layout(FILES, 4096).chunk(2)
    sealed, opened = bytearray(chunk.length), bytearray(chunk.size)
    RunCipher(DATA_KEY, ID, RUN).seal_into(chunk, b"x" * chunk.size, sealed)
    RunCipher(DATA_KEY, ID, RUN).open_into(chunk, sealed, opened)
    assert opened == b"x" * 4096
    elsewhere = {"counter": 3, "path": "config.json", "index": 1, "count": 3, "final": True}
    key = bytes(32) if change == "key" else DATA_KEY
    cipher = RunCipher(key, b"j" * 16 if change == "artifact" else ID, RUN2 if change == "run" else RUN)
    place = replace(chunk, **{change: elsewhere[change]}) if change in elsewhere else chunk
    with pytest.raises(ChunkRefused, match=f"chunk {place.counter} "):
        cipher.open_into(place, sealed, opened)


def test_a_chunk_of_another_length_is_refused() -> None:
    chunk = Layout(FILES, 4096).chunk(1)
    for length in (0, 15, chunk.length - 1, chunk.length + 1):
        with pytest.raises(ChunkRefused, match="chunk 1 "):
            RunCipher(DATA_KEY, ID, RUN).open_into(chunk, bytes(length), bytearray(chunk.size))


@pytest.mark.parametrize("key", [OWNER, P384])
def test_a_manifest_reads_as_it_was_signed(key: cose.SigningKey) -> None:
    manifest = replace(MANIFEST, owner=cose.Signer.of(key), policy=b"q" * 32, tenants=("a", "b"))
    signed = SignedManifest.from_bytes(manifest.sign(key))
    assert signed.manifest == manifest
    with pytest.raises(ManifestRefused):
        manifest.sign(OTHER)


def test_admission_is_for_what_was_released() -> None:
    signed = SignedManifest.from_bytes(MANIFEST.sign(OWNER))
    ChunkOpener(signed, secret(signed), now=99)
    older = SignedManifest.from_bytes(replace(MANIFEST, version=2).sign(OWNER))
    resigned = SignedManifest.from_bytes(replace(MANIFEST, owner=cose.Signer.of(OTHER)).sign(OTHER))
    for found, released, now, error in [
        (older, secret(signed), 99, ManifestRefused),
        (resigned, secret(signed), 99, ManifestRefused),
        (signed, secret(signed, owner=bytes(32)), 99, ManifestRefused),
        (signed, secret(signed), 100, SecretExpired),
        (signed, secret(signed, key=bytes(32)), 99, WrongKey),
    ]:
        with pytest.raises(error):
            ChunkOpener(found, released, now)


WRONG: list[dict[str, Any]] = [
    {"format": "cloister/artifact/v2"},
    {"id": "aWlp"},
    {"name": ""},
    {"name": "bell\a"},
    {"version": 0},
    {"version": 1.0},
    {"kind": "weights"},
    {"kind": "adapter"},
    {"base": "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA"},
    {"owner": ""},
    {"owner": "AAAA"},
    {"chunk_size": 4095},
    {"chunk_size": (1 << 21) + 1},
    {"files": []},
    {"files": [{"path": "config.json", "size": -1}]},
    {"files": [{"path": "../config.json", "size": 1}]},
    {"files": [{"path": "model.bin", "size": 1}]},
    {"files": [{"path": "tokenizer.json", "size": 1}, {"path": "config.json", "size": 1}]},
    {"files": [{"path": "config.json", "size": 1}, {"path": "config.json", "size": 1}]},
    {"files": [{"path": "config.json", "size": 1, "mode": 7}]},
    {"runs": []},
    {"runs": [{"id": "cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI", "chunks": 4}]},
    {"runs": [{"id": "cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI", "chunks": 0}]},
    {"demo": 1},
    {"tenants": ["b", "a"]},
    {"tenants": "a"},
    {"extra": 1},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_wrong_manifest_is_malformed(change: dict[str, Any]) -> None:
    table = json.loads(MANIFEST.to_payload()) | change
    raw = json.dumps(table, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(MalformedDocument):
        Manifest.from_payload(raw)


def test_a_manifest_of_another_kind_of_document_is_refused() -> None:
    raw = cose.sign(MANIFEST.to_payload(), "application/json", OWNER)
    with pytest.raises(SignatureRefused):
        SignedManifest.from_bytes(raw)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_no_alteration_of_a_manifest_passes(place: int, change: int) -> None:
    raw = bytearray(MANIFEST.sign(OWNER))
    raw[place % len(raw)] ^= change
    with pytest.raises((MalformedDocument, SignatureRefused)):
        SignedManifest.from_bytes(bytes(raw))


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_only_named_errors_escape(raw: bytes) -> None:
    for read in (SignedManifest.from_bytes, Manifest.from_payload):
        with suppress(SealingError):
            read(raw)


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\nb", "\u202e", "x" * 256]
)
def test_paths_stay_inside(path: str) -> None:
    assert not is_path(path)
    assert is_path("ward/bed 7/Übergabe.txt")
