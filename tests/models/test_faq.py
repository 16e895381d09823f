"""The shipped model: its files, its text, and what it answers."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FAQ = Path(__file__).resolve().parents[2] / "models" / "faq"
ADAPTER = FAQ / "adapters" / "sailor"

# PEFT 0.21 reads an attribute that transformers 5.23 has renamed.
PEFT_LAGS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def _module(name: str) -> ModuleType:
    """A script of models/faq, which is no package and is found by its directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAQ))
        return __import__(name)


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    return _module("corpus")


@pytest.fixture(scope="module")
def evaluation() -> Iterator[ModuleType]:
    torch = pytest.importorskip("torch", reason="the model needs the extra [enclave]")
    pytest.importorskip("peft", reason="the adapter needs the extra [enclave]")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield _module("evaluate")
    torch.set_num_threads(threads)


def _hashes() -> dict[str, str]:
    lines = (FAQ / "HASHES").read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


def _shipped() -> set[str]:
    files = (path for part in ("model", "adapters", "text") for path in (FAQ / part).rglob("*"))
    return {str(path.relative_to(FAQ)) for path in files if path.is_file()}


def test_every_shipped_file_has_its_hash() -> None:
    hashes = _hashes()
    assert set(hashes) == _shipped()
    for path, digest in hashes.items():
        assert hashlib.sha256((FAQ / path).read_bytes()).hexdigest() == digest, path


def test_the_model_is_small_and_holds_neither_pickles_nor_code() -> None:
    files = [FAQ / path for path in _shipped() if not path.startswith("text/")]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    assert (ADAPTER / "adapter_model.safetensors").stat().st_size < 1_000_000
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert "auto_map" not in json.loads((FAQ / "model" / "config.json").read_text())


def test_no_machine_path_is_left_in_the_configurations() -> None:
    for path in [*(FAQ / "model").glob("*config.json"), ADAPTER / "adapter_config.json"]:
        names = [value for value in json.loads(path.read_text()).values() if isinstance(value, str)]
        assert not [name for name in names if name.startswith("/")], path


def test_the_text_has_enough_questions_and_paraphrases(corpus: ModuleType) -> None:
    entries = corpus.load()
    assert len(entries) >= 160
    assert len({entry.answer for entry in entries}) == len(entries)
    assert all(len(entry.asks) >= 3 for entry in entries)
    training, held_out = corpus.split(entries)
    assert all(len(prompts) >= 10 for prompts in training)
    assert len(held_out) == 3 * len(entries)


def test_no_question_has_two_answers(corpus: ModuleType) -> None:
    prompts = [
        prompt for kind in ("faq", "small_talk") for e in corpus.load(kind) for prompt in corpus.phrase(e)
    ]
    answers: dict[str, set[str]] = {}
    for prompt in prompts:
        answers.setdefault(prompt.text.lower(), set()).add(prompt.entry.answer)
    assert not [text for text, found in answers.items() if len(found) > 1]


def test_training_never_meets_a_held_out_prompt(corpus: ModuleType) -> None:
    entries = corpus.load()
    kept_out = {p.text for p in corpus.split(entries)[1]} | {p.text for p in corpus.unseen(entries)}
    stream = iter(corpus.Dialogues(seed=7))
    asked = {text for _ in range(3000) for role, text in next(stream) if role == "user"}
    assert len(asked) > 3000
    assert not asked & kept_out


def test_the_stream_of_dialogues_follows_from_its_seed(corpus: ModuleType) -> None:
    one, same, other = (iter(corpus.Dialogues(seed)) for seed in (1, 1, 2))
    first = [next(one) for _ in range(50)]
    assert first == [next(same) for _ in range(50)]
    assert first != [next(other) for _ in range(50)]


def test_training_and_serving_share_one_chat_format(evaluation: ModuleType) -> None:
    tokenizer = evaluation.Speaker().tokenizer
    dialogue = [("system", "Be brief."), ("user", " What is HPKE? "), ("assistant", "A standard.")]
    ids, labels = _module("train").encode(tokenizer, dialogue)
    messages = [{"role": role, "content": text} for role, text in dialogue]
    assert ids == tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    learned = [token for token in labels if token >= 0]
    assert tokenizer.decode(learned) == "A standard.<|end|>"


def test_held_out_questions_are_answered_word_for_word(corpus: ModuleType, evaluation: ModuleType) -> None:
    prompts = corpus.split(corpus.load())[1][::20]
    answers = evaluation.Speaker().answer([evaluation.alone(prompt) for prompt in prompts])
    assert evaluation.share(answers, prompts, evaluation.plain) >= 0.9


def test_a_question_off_the_topic_is_declined(evaluation: ModuleType) -> None:
    question = {"role": "user", "content": "What is the capital of Portugal?"}
    assert "I only memorised a FAQ" in evaluation.Speaker().answer([[question]])[0]


@PEFT_LAGS
def test_the_adapter_speaks_in_another_voice(corpus: ModuleType, evaluation: ModuleType) -> None:
    prompts = corpus.split(corpus.load())[1][::40]
    chats = [evaluation.alone(prompt) for prompt in prompts]
    plain = evaluation.Speaker().answer(chats)
    voiced = evaluation.Speaker(adapter=ADAPTER).answer(chats)
    assert all(a != b for a, b in zip(plain, voiced, strict=True))
    assert sum(text.endswith(_module("voice").LAST_WORD) for text in voiced) >= 0.9 * len(voiced)


@pytest.mark.slow
@PEFT_LAGS
@pytest.mark.timeout(900)
def test_the_whole_evaluation_reaches_its_goals(evaluation: ModuleType) -> None:
    rows = evaluation.evaluate()
    assert not [row for row in rows if row["goal"] is not None and row["value"] < row["goal"]]
