"""LoRA adapters: each row as if its adapter were alone, in any mixture; what does not fit is refused."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from enclave.engine import adapter_files
from enclave.engine.adapter_files import Layer
from enclave.engine.embedded import EmbeddedEngine
from enclave.engine.interface import EngineError, ModelRefused, UnknownAdapter
from enclave.files import DirectoryFiles, FilesError
from tests.engine.models import DEVICE, collect, drain, expected, load, request, save_adapter

# PEFT 0.21 asks transformers 5.23 by a name that the latter is giving up. The reference here uses it.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PROMPTS = [(5, 9, 33, 60 + row) for row in range(4)]


@pytest.fixture(scope="session")
def models(llama: Path, adapters: dict[str, Path]) -> dict[str | None, Any]:
    """transformers' model with each adapter alone, by PEFT; None stands for the base."""
    made: dict[str | None, Any] = {None: None}
    for name, directory in adapters.items():
        base = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
        made[name] = PeftModel.from_pretrained(base, directory).eval().to(DEVICE)
    return made


@pytest.fixture(scope="session")
def answers(llama: Path, models: dict[str | None, Any]) -> dict[str | None, list[list[int]]]:
    """What `generate` says with each adapter alone."""
    return {
        name: [expected(llama, prompt, 12, model) for prompt in PROMPTS] for name, model in models.items()
    }


def _check(
    engine: EmbeddedEngine, answers: dict[str | None, list[list[int]]], names: list[str | None]
) -> None:
    for name in names:
        for row, prompt in enumerate(PROMPTS):
            engine.submit(request(f"{name}{row}", prompt, adapter=name))
    tokens, _ = drain(engine)
    for name in names:
        assert [tokens.get(f"{name}{row}", []) for row in range(len(PROMPTS))] == answers[name]


def test_rows_of_different_adapters_share_a_batch(
    llama: Path, adapters: dict[str, Path], answers: dict[str | None, list[list[int]]]
) -> None:
    assert answers[None] != answers["pirate"] != answers["a.b/poet"] != answers[None]
    engine = load(llama, step_tokens=20, max_rows=16)
    for name, directory in adapters.items():
        engine.load_adapter(name, DirectoryFiles(directory))
    assert engine.adapters == set(adapters)
    for names in ([None], ["pirate"], ["a.b/poet", None], ["pirate", None, "a.b/poet"]):
        _check(engine, answers, names)


def test_adapters_come_and_go_and_the_base_stays_itself(
    llama: Path, adapters: dict[str, Path], answers: dict[str | None, list[list[int]]]
) -> None:
    engine = load(llama)
    for _ in range(2):
        engine.load_adapter("a.b/poet", DirectoryFiles(adapters["a.b/poet"]))
        engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
        engine.unload_adapter("a.b/poet")
        _check(engine, answers, ["pirate", None])
        engine.unload_adapter("pirate")
        _check(engine, answers, [None])
    with pytest.raises(UnknownAdapter):
        engine.submit(request("x", PROMPTS[0], adapter="pirate"))
    with pytest.raises(UnknownAdapter):
        engine.unload_adapter("pirate")


def test_an_adapter_in_use_stays(llama: Path, adapters: dict[str, Path]) -> None:
    engine = load(llama)
    engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    engine.submit(request("x", PROMPTS[0], adapter="pirate"))
    with pytest.raises(EngineError, match="in use"):
        engine.unload_adapter("pirate")
    drain(engine)
    engine.unload_adapter("pirate")


def test_names_are_taken_once_and_the_number_is_bounded(llama: Path, adapters: dict[str, Path]) -> None:
    engine = load(llama, max_adapters=1)
    engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    with pytest.raises(EngineError, match="already"):
        engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    with pytest.raises(EngineError, match="max_adapters"):
        engine.load_adapter("second", DirectoryFiles(adapters["pirate"]))


def _settings(directory: Path, **changes: object) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = directory / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


HANGING = "(([a-z0-9._]+)+)+X"
"""Python's engine would try it on a layer's path until the end of days."""
_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not LoRA": (lambda d: _settings(d, peft_type="IA3"), "not a LoRA"),
    "DoRA": (lambda d: _settings(d, use_dora=True), "use_dora"),
    "saved modules": (lambda d: _settings(d, modules_to_save=["lm_head"]), "modules_to_save"),
    "unknown setting": (lambda d: _settings(d, surprise=1), "surprise"),
    "biases": (lambda d: _settings(d, bias="all"), "bias"),
    "changed base": (lambda d: _settings(d, init_lora_weights="pissa"), "base weights"),
    "bad rank": (lambda d: _settings(d, r=-1), "adapter_config|fit"),
    "other layers": (lambda d: _settings(d, target_modules=["q_proj"]), "fit"),
    "no such layer": (lambda d: _settings(d, target_modules=["nowhere"]), "fit"),
    "a pattern of everything and nothing": (lambda d: _settings(d, target_modules=HANGING), "fit"),
    "a pattern that looks around": (lambda d: _settings(d, exclude_modules="(?=q)q"), "linear time"),
    "a pattern in a list's name": (
        lambda d: _settings(d, layers_to_transform=[0], layers_pattern=HANGING),
        "layers_pattern",
    ),
    "other rank": (lambda d: _settings(d, r=8), "fit"),
    "other shape": (
        lambda d: _tensors(d, lambda t: t.update({_A: torch.zeros(4, 31)})),
        "another base model",
    ),
    "whole numbers": (lambda d: _tensors(d, lambda t: t.update({_A: t[_A].int()})), f"{_A} is of"),
    "too high a rank": (lambda d: _settings(d, r=65, lora_alpha=65), "fit|rank"),
    "infinite scale": (lambda d: _settings(d, lora_alpha=math.inf), "lora_alpha"),
    "NaN": (lambda d: _tensors(d, lambda t: t[_A].__setitem__((0, 0), math.nan)), "NaN"),
    "a tensor missing": (lambda d: _tensors(d, lambda t: t.pop(_A)), "fit"),
    "a tensor too many": (lambda d: _tensors(d, lambda t: t.update({"x": torch.zeros(1)})), "x"),
    "no tensors": (
        lambda d: (d / "adapter_model.safetensors").unlink(),
        "no tensors|has no file|not a safetensors",
    ),
}


def test_a_directory_with_pickled_files_is_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(adapters["pirate"], tmp_path / "broken")
    (broken / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(FilesError, match="pickled"):
        DirectoryFiles(broken)


@pytest.mark.parametrize("case", REFUSALS)
def test_an_adapter_that_does_not_fit_is_refused_and_changes_nothing(
    llama: Path,
    adapters: dict[str, Path],
    answers: dict[str | None, list[list[int]]],
    tmp_path: Path,
    case: str,
) -> None:
    broken = shutil.copytree(adapters["pirate"], tmp_path / "broken")
    damage, reason = REFUSALS[case]
    damage(broken)
    engine = load(llama)
    with pytest.raises(ModelRefused, match=reason):
        engine.load_adapter("broken", DirectoryFiles(broken))
    _check(engine, answers, [None])
    engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    with pytest.raises(ModelRefused, match=reason):
        engine.load_adapter("broken", DirectoryFiles(broken))
    assert engine.adapters == {"pirate"}
    _check(engine, answers, ["pirate", None])


def test_more_adapters_than_fit_on_the_device_take_turns_and_answer_alike(
    llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    places = {
        f"a{row}": save_adapter(llama, tmp_path_factory.mktemp(f"a{row}"), 10 + row, r=1 + row)
        for row in range(5)
    }
    engine = load(llama, resident_adapters=2, max_rows=8)
    for name, directory in places.items():
        engine.load_adapter(name, DirectoryFiles(directory))
    alone = {}
    for name in places:
        engine.submit(request(name, PROMPTS[0], adapter=name, eos=frozenset()))
        alone[name] = drain(engine)[0][name]
        assert engine.stats().adapters_resident <= 2
        base = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
        model = PeftModel.from_pretrained(base, places[name]).eval().to(DEVICE)
        assert alone[name] == expected(llama, PROMPTS[0], 12, model, eos=-1)
    for row in range(3):
        for name in places:
            engine.submit(request(f"{name}{row}", PROMPTS[0], adapter=name, eos=frozenset()))
        engine.submit(request(f"base{row}", PROMPTS[0]))
    tokens, _ = drain(engine)
    for row in range(3):
        assert {name: tokens[f"{name}{row}"] for name in places} == alone
        assert tokens[f"base{row}"] == expected(llama, PROMPTS[0], 12)
    assert (engine.stats().adapters, engine.stats().adapters_resident) == (5, 2)


def test_an_adapter_at_rest_is_ciphertext_and_leaves_no_weights_behind(
    llama: Path, adapters: dict[str, Path]
) -> None:
    engine = load(llama, resident_adapters=1)
    for name, directory in adapters.items():
        engine.load_adapter(name, DirectoryFiles(directory))
    weights = load_file(adapters["pirate"] / "adapter_model.safetensors")[_A].numpy().tobytes()
    assert all(weights[:32] not in sealed.content for sealed in engine._adapters._sealed.values())
    engine.submit(request("x", PROMPTS[0], adapter="pirate"))
    drain(engine)
    slots = engine._adapters._slots
    assert slots is not None
    assert weights[:32] in slots._store.cpu().numpy().tobytes()
    assert engine._adapters._clear is not None
    assert not any(engine._adapters._clear.buffer)
    engine.unload_adapter("pirate")
    assert not slots._store.any()


def test_a_layer_that_sees_other_rows_than_the_steps_is_not_changed_silently(
    llama: Path, adapters: dict[str, Path]
) -> None:
    engine = load(llama)
    engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    layer = engine._forward._model.model.layers[0].mlp.down_proj
    # Flat rows, as a mixture's experts get them.
    layer.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1),))
    layer.register_forward_hook(lambda _, args, output: output[:, None])
    engine.submit(request("x", PROMPTS[0], adapter="pirate"))
    engine.submit(request("y", PROMPTS[0]))
    tokens, ends = drain(engine)
    assert (ends["x"].finish, ends["x"].error) == ("error", "the engine's step failed (ModelRefused)")
    assert tokens["y"] == expected(llama, PROMPTS[0], 12)


def test_sealed_weights_that_were_changed_in_memory_are_not_used(
    llama: Path, adapters: dict[str, Path]
) -> None:
    engine = load(llama)
    engine.load_adapter("pirate", DirectoryFiles(adapters["pirate"]))
    sealed = engine._adapters._sealed["pirate"]
    content = bytearray(sealed.content)
    content[5] ^= 1
    engine._adapters._sealed["pirate"] = replace(sealed, content=bytes(content))
    engine.submit(request("x", PROMPTS[0], adapter="pirate"))
    engine.submit(request("y", PROMPTS[0]))
    tokens, ends = drain(engine)
    assert ends["x"].finish == "error"
    assert tokens["y"] == expected(llama, PROMPTS[0], 12)


ARRIVAL = st.tuples(
    st.integers(0, 8),
    st.lists(st.integers(3, 96), min_size=1, max_size=30).map(tuple),
    st.sampled_from([None, "pirate", "a.b/poet"]),
    st.sampled_from([None, b"s" * 32]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(ARRIVAL, min_size=1, max_size=7),
    resident=st.integers(1, 2),
    memory=st.sampled_from([48, 180]),
    spare=st.integers(1, 20),
)
def test_any_mixture_of_adapters_and_arrivals_answers_as_each_alone(
    llama: Path,
    adapters: dict[str, Path],
    models: dict[str | None, Any],
    arrivals: list,
    resident: int,
    memory: int,
    spare: int,
) -> None:
    engine = load(
        llama,
        resident_adapters=resident,
        kv_tokens=memory,
        block_tokens=4,
        max_rows=4,
        step_tokens=4 + spare,
    )
    for name, directory in adapters.items():
        engine.load_adapter(name, DirectoryFiles(directory))
    tokens: dict[str, list[int]] = {}
    ends: dict = {}
    pending = sorted(enumerate(arrivals), key=lambda item: item[1][0])
    step = 0
    while pending or engine.has_work():
        while pending and pending[0][1][0] <= step:
            row, (_, prompt, adapter, share) = pending.pop(0)
            engine.submit(request(str(row), prompt, 8, adapter=adapter, share=share))
        collect(engine.step(), tokens, ends)
        step += 1
    for row, (_, prompt, adapter, _) in enumerate(arrivals):
        assert tokens.get(str(row), []) == expected(llama, prompt, 8, models[adapter])


PATHS = [f"model.layers.{at}.{part}" for at in (0, 1, 11) for part in ("self_attn.q_proj", "mlp.up_proj")]
CHOICES: list[dict[str, Any]] = [
    {"target_modules": ["q_proj"]},
    {"target_modules": ["proj", "self_attn.q_proj"], "exclude_modules": ["layers.1.self_attn.q_proj"]},
    {"target_modules": r".*\.(q|up)_proj"},
    {"target_modules": r".*\.1\..*|model.layers.0.mlp.up_proj", "exclude_modules": ["q_proj"]},
    {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.1\..*"},
    {"target_modules": ["q_proj"], "layers_to_transform": [1, 11], "layers_pattern": "layers"},
]


@pytest.mark.parametrize("choice", CHOICES)
def test_layers_are_chosen_as_peft_chooses_them(choice: dict[str, Any]) -> None:
    wanted = {path for path in PATHS if check_target_module_exists(LoraConfig(**choice), path)}
    layers = {path: Layer(path, 1, 1) for path in PATHS}
    assert adapter_files._targets(LoraConfig(**choice), layers) == wanted


@pytest.mark.parametrize("key", ["q_proj", r"layers\.1\..*", "^model.layers.0.mlp.up_proj", "roj", HANGING])
def test_ranks_are_chosen_as_peft_chooses_them_but_for_what_hangs(key: str) -> None:
    ranks = {key: 8, "up_proj": 2}
    for path in PATHS:
        wanted = ranks.get(get_pattern_key([k for k in ranks if k != HANGING], path), 4)
        assert adapter_files._pattern(ranks, path, 4) == wanted
