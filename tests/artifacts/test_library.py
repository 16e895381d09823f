"""What is loaded and what has to go: base checks, failures that leave nothing, expiry, adapters."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from attestation import Workload
from client.artifacts.seal import Sealed, seal
from enclave.artifacts.holdings import Holdings
from enclave.artifacts.library import Findings, Library, find_adapter
from enclave.artifacts.sealed_files import ArtifactError, SealedFiles
from enclave.artifacts.shelf import Shelf, find, place_of
from enclave.artifacts.stores import DirectoryStore
from enclave.configuration import Configuration
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import EngineError, EngineOptions, GenerationRequest, ModelRefused, Sampling
from enclave.engine.runner import EngineRunner
from enclave.engine.tensors import load_tensors
from enclave.files import DirectoryFiles, FilesError
from sealing.artifact import Kind, ReleasedSecret, SignedManifest
from tests.artifacts.made import OTHER, SMALL, order, secret_for
from tests.running import FAQ

SAILOR = FAQ.parent / "adapters" / "sailor"
BARE = Workload(software="test", models=(), adapters=(), engine={}, policies=(), consent="", clock="host")
OPTIONS = EngineOptions(kv_tokens=512, threads=1)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Releases:
    """Releases whatever is asked for, until `not_after` by name; counts."""

    def __init__(self, **not_after: int) -> None:
        self.not_after = not_after
        self.asked: list[str] = []

    def __call__(self, signed: SignedManifest) -> ReleasedSecret:
        self.asked.append(signed.manifest.name)
        return secret_for(signed, not_after=self.not_after.get(signed.manifest.name, 1 << 40))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` and its adapter `sailor`, sealed by two owners; `only-a` is for tenant a."""
    directory = tmp_path_factory.mktemp("library")
    model = seal(order(FAQ, name="faq", chunk_size=1 << 18), directory / "model").signed
    for name, tenants in (("sailor", None), ("only-a", ("a",))):
        adapter = order(SAILOR, kind=Kind.ADAPTER, owner=OTHER, base=model.manifest.root, name=name)
        seal(replace(adapter, tenants=tenants), directory / name)
    seal(replace(adapter, base=bytes(32), name="stranger"), directory / "stranger")
    return directory


def library(sealed: Path, releases: Releases, clock: Clock, **adapters: str) -> Library:
    configuration = Configuration(
        model=place_of(str(sealed / "model")),
        name="faq",
        adapters={name: place_of(str(sealed / place)) for name, place in adapters.items()},
    )
    return Library(Findings.of(configuration), Shelf(releases, clock), Holdings(BARE), clock)


def load(books: Library) -> EmbeddedEngine:
    return books.load(lambda files: EmbeddedEngine.load(files, OPTIONS))


def loaded(books: Library) -> tuple[list[str], list[str]]:
    workload = Workload.from_bytes(books.holdings.workload)
    return [item.name for item in workload.models], [item.name for item in workload.adapters]


def test_what_is_loaded_and_when_is_in_the_workload(sealed: Path) -> None:
    releases = Releases()
    books = library(sealed, releases, Clock(), sailor="sailor")
    assert loaded(books) == ([], [])
    engine = load(books)
    assert loaded(books) == (["faq"], ["sailor"]) and releases.asked == ["faq", "sailor"]
    assert engine.adapters == {"sailor"} and "faq" in books.texts
    engine.erase()


def test_an_adapter_for_another_base_is_refused_and_the_model_is_erased(sealed: Path) -> None:
    releases, made = Releases(), []

    def make(files: Any) -> EmbeddedEngine:
        made.append(EmbeddedEngine.load(files, OPTIONS))
        return made[0]

    with pytest.raises(ArtifactError, match="adapter x is for the model with root 0000"):
        library(sealed, releases, Clock(), x="stranger").load(make)
    assert releases.asked == ["faq"], "its key was asked for"
    with pytest.raises(ValueError, match="closed"):
        _ = made[0]._loaded.memory[0].buffer


def test_without_a_broker_nothing_sealed_opens(sealed: Path) -> None:
    with pytest.raises(ArtifactError, match="name its key broker"):
        Shelf(None).open(find("faq", str(sealed / "model"), Kind.MODEL))


def test_places_that_hold_something_else(sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds an adapter, not a model"):
        find("faq", str(sealed / "sailor"), Kind.MODEL)
    with pytest.raises(FilesError, match="No such file"):
        find("faq", tmp_path / "absent", Kind.MODEL)
    with pytest.raises(FilesError, match="only an owner's sealed adapter"):
        find_adapter("sailor", SAILOR)


def test_a_tampered_chunk_ends_loading_with_nothing_kept(sealed: Path, tmp_path: Path) -> None:
    signed = find("faq", str(sealed / "model"), Kind.MODEL).signed
    assert signed is not None
    raw = bytearray((sealed / "model" / "chunks").read_bytes())
    raw[signed.manifest.layout().chunk(9).offset] ^= 1
    for name, content in (
        ("chunks", raw),
        ("manifest.cose", (sealed / "model" / "manifest.cose").read_bytes()),
    ):
        (tmp_path / name).write_bytes(content)
    configuration = Configuration(model=str(tmp_path), name="faq")
    books = Library(Findings.of(configuration), Shelf(Releases(), Clock()), Holdings(BARE))
    with pytest.raises(ModelRefused, match=r"chunk 9 \(model.safetensors\)"):
        load(books)
    assert not books.texts and loaded(books) == ([], [])


@pytest.fixture
async def serving(sealed: Path) -> Any:
    clock, releases = Clock(), Releases(sailor=2000, faq=3000)
    books = library(sealed, releases, clock)
    engine = load(books)
    runner = EngineRunner(engine)
    yield books, runner, engine, clock
    await asyncio.to_thread(runner.close)


async def test_adapters_come_and_go_while_serving(serving: Any, sealed: Path) -> None:
    books, runner, engine, _ = serving
    before = books.holdings.workload
    await books.add_adapter(runner, "sailor", find_adapter("sailor", str(sealed / "sailor")))
    assert loaded(books) == (["faq"], ["sailor"]) and engine.adapters == {"sailor"}
    with pytest.raises(EngineError, match="loaded already"):
        await books.add_adapter(runner, "sailor", find_adapter("sailor", str(sealed / "only-a")))
    await books.remove_adapter(runner, "sailor")
    assert books.holdings.workload == before and not engine.adapters
    with pytest.raises(ArtifactError, match="is for the model"):
        await books.add_adapter(runner, "x", find_adapter("x", str(sealed / "stranger")))
    assert books.holdings.workload == before


async def test_an_adapter_whose_key_expires_is_unloaded_when_its_requests_have_ended(
    serving: Any, sealed: Path
) -> None:
    books, runner, engine, clock = serving
    await books.add_adapter(runner, "sailor", find_adapter("sailor", str(sealed / "sailor")))
    request = GenerationRequest(
        id="1",
        prompt=(5, 6, 7),
        sampling=Sampling(temperature=0),
        max_tokens=40,
        eos=frozenset(),
        adapter="sailor",
    )
    async with await runner.submit(request) as stream:
        await anext(stream)
        clock.now = 2000
        await books.maintain(runner, engine)
        assert not books.holdings.permits("sailor", "anybody") and loaded(books) == (["faq"], [])
        rest = [event async for event in stream]
    assert rest[-1].finish == "length", "what has begun keeps its adapter"
    for _ in range(50):
        await books.maintain(runner, engine)
        if not engine.adapters:
            break
        await asyncio.sleep(0.02)
    assert not engine.adapters


async def test_a_model_whose_key_expires_is_erased(serving: Any) -> None:
    books, runner, engine, clock = serving
    memory = engine._loaded.memory[0]
    assert any(memory.buffer[:4096])
    clock.now = 3000
    await books.maintain(runner, engine)
    assert loaded(books) == ([], []) and runner.failure is not None
    with pytest.raises(ValueError, match="closed"):
        _ = memory.buffer


def test_owners_say_who_may_use_what(sealed: Path) -> None:
    books = library(sealed, Releases(), Clock())
    books.holdings.add(find("only-a", str(sealed / "only-a"), Kind.ADAPTER), None, adapter=True)
    books.holdings.add(find("faq", str(sealed / "model"), Kind.MODEL), None)
    assert books.holdings.permits("only-a", "a") and not books.holdings.permits("only-a", "b")
    assert books.holdings.permits("faq", "b") and not books.holdings.permits("absent", "a")


# Bit for bit.


def tiny(directory: Path, dtype: torch.dtype) -> Path:
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    torch.manual_seed(3)
    LlamaForCausalLM(config).to(dtype).save_pretrained(directory)
    return directory


def files_pair(plain: Path, sealed: Sealed, out: Path) -> Iterator[Any]:
    yield DirectoryFiles(plain)
    yield SealedFiles(DirectoryStore(out), sealed.signed, secret_for(sealed.signed), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_models_of_every_dtype_load_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    plain = tiny(tmp_path / "plain", dtype)
    done = seal(order(plain, chunk_size=SMALL), tmp_path / "sealed")
    name = str(dtype).removeprefix("torch.")
    options = EngineOptions(kv_tokens=64, step_tokens=65, dtype=name, threads=1)  # type: ignore[arg-type]
    prompt = torch.tensor([[1, 2, 3, 50, 96]])
    outputs = []
    for files in files_pair(plain, done, tmp_path / "sealed"):
        tensors = load_tensors(files, ["model.safetensors"], dtype=dtype).by_name
        raw = {key: value.view(torch.uint8).numpy().tobytes() for key, value in tensors.items()}
        engine = EmbeddedEngine.load(files, options)
        with torch.no_grad():
            logits = engine._loaded.model.lm_head(engine._loaded.model.model.embed_tokens(prompt))
        outputs.append((raw, logits))
        engine.erase()
    assert outputs[0][0] == outputs[1][0] and len(outputs[0][0]) > 10
    assert torch.equal(outputs[0][1], outputs[1][1])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_peft_adapter_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(tiny(tmp_path / "base", torch.float32))
    made = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    made.save_pretrained(tmp_path / "plain")
    done = seal(
        order(tmp_path / "plain", kind=Kind.ADAPTER, base=bytes(32), chunk_size=SMALL), tmp_path / "sealed"
    )
    plain, sealed = files_pair(tmp_path / "plain", done, tmp_path / "sealed")
    assert dict(plain.sizes) == dict(sealed.sizes)
    assert all(plain.read(name) == sealed.read(name) for name in plain.sizes)
    assert json.loads(sealed.read("adapter_config.json"))["r"] == 4


async def test_a_tenant_whom_the_owner_does_not_name_is_refused_by_the_api() -> None:
    """Through the app: an adapter for tenant a, asked for by somebody else."""
    from tests.api.scripted import app

    async with app() as (client, _):
        question = {"model": "sailor", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        assert (await client.post("/v1/chat/completions", json=question)).status_code == 200
    async with app(denied={"sailor"}) as (client, _):
        answer = await client.post("/v1/chat/completions", json=question)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "not_permitted"
        question["model"] = "faq"
        assert (await client.post("/v1/chat/completions", json=question)).status_code == 200


async def test_an_encoder_asks_whether_it_may_be_used_like_a_model() -> None:
    from tests.api.scripted import app

    texts = {"model": "minilm", "input": "hello"}
    async with app() as (client, _):
        assert (await client.post("/v1/embeddings", json=texts)).status_code == 200
    async with app(denied={"minilm"}) as (client, engine):
        answer = await client.post("/v1/embeddings", json=texts)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "not_permitted"
        assert engine.seen == []


def test_what_its_owner_unloads_while_a_device_is_restored_does_not_come_back(sealed: Path) -> None:
    releases = Releases()
    books = library(sealed, releases, Clock(), sailor="sailor")
    load(books).erase()
    again: list[str] = []

    class Device:
        def load_adapter(self, name: str, files: Any) -> None:
            again.append(name)

    books.restore(Device(), lambda files: again.append("base"))  # type: ignore[arg-type, func-returns-value]
    assert again == ["base", "sailor"] and loaded(books) == (["faq"], ["sailor"])

    def unloading(signed: SignedManifest) -> ReleasedSecret:
        books.holdings.remove("sailor")
        return releases(signed)

    books._shelf = Shelf(unloading, Clock())
    books.restore(Device(), lambda files: again.append("base"))  # type: ignore[arg-type, func-returns-value]
    assert again == ["base", "sailor", "base"] and loaded(books) == (["faq"], [])
