"""The model that ships: its text and its greedy answers are transformers' own, alone and in a batch."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from enclave.files import DirectoryFiles
from enclave.text import TextModel
from tests.engine.models import DEVICE, drain, expected, load, request

FAQ = Path(__file__).resolve().parents[2] / "models" / "faq"
QUESTIONS = ["What is attestation?", "Hello", "What does the operator see of my prompt?", "Who are you?"]


def _shipped(name: str, weights: str) -> Path:
    directory = FAQ / name
    if not (directory / weights).is_file():
        pytest.skip(f"{directory} is not here: train it with models/faq/train.py")
    return directory


@pytest.fixture(scope="module")
def model() -> Path:
    return _shipped("model", "model.safetensors")


def test_conversations_are_as_transformers_makes_them(model: Path) -> None:
    theirs, ours = AutoTokenizer.from_pretrained(model), TextModel(model)
    for question in [*QUESTIONS, "  naïve\n\n 你好 🙂 "]:
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": question}]
        ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert list(ours.chat(messages)) == ids
        assert list(ours.encode(question)) == theirs(question).input_ids
    assert theirs.eos_token_id in ours.eos


def test_answers_are_those_of_generate(model: Path) -> None:
    text, engine = TextModel(model), load(model, step_tokens=40, max_rows=8)
    prompts = [text.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    answers = [expected(model, prompt, 60) for prompt in prompts]
    assert text.eos == {2}
    for row, prompt in enumerate(prompts):
        engine.submit(request(str(row), prompt, 60))
    tokens, _ = drain(engine)
    assert [tokens.get(str(row), []) for row in range(len(prompts))] == answers
    for prompt, answer in zip(prompts, answers, strict=True):
        engine.submit(request("alone", prompt, 60))
        assert drain(engine)[0].get("alone", []) == answer


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_its_adapter_answers_as_it_does_alone(model: Path) -> None:
    directory = _shipped("adapters/sailor", "adapter_model.safetensors")
    text, engine = TextModel(model), load(model)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    alone = PeftModel.from_pretrained(base, directory).eval().to(DEVICE)
    engine.load_adapter("voice", DirectoryFiles(directory))
    prompts = [text.chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    for row, prompt in enumerate(prompts):
        engine.submit(request(f"voice{row}", prompt, 40, adapter="voice"))
        engine.submit(request(f"base{row}", prompt, 40))
    tokens, _ = drain(engine)
    for row, prompt in enumerate(prompts):
        assert tokens.get(f"voice{row}", []) == expected(model, prompt, 40, alone)
        assert tokens.get(f"base{row}", []) == expected(model, prompt, 40)
