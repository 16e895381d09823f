"""Scores the shipped model and its adapter under greedy decoding.

    python models/faq/evaluate.py [--json FILE]

An answer counts only if it equals the FAQ's answer character for character.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from corpus import HERE, Entry, Prompt, load, split, unseen
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from voice import LAST_WORD, speak

ADAPTER = HERE / "adapters" / "sailor"
SYSTEM = "You are a patient teacher who explains things to beginners."


class Speaker:
    """The model, with or without an adapter, answering chats greedily in batches."""

    def __init__(self, model: Path = HERE / "model", adapter: Path | None = None) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._model = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, trust_remote_code=False
        )
        if adapter:
            self._model = PeftModel.from_pretrained(self._model, adapter)
        self._model.eval()

    def answer(self, chats: list[list[dict[str, str]]], batch: int = 64) -> list[str]:
        order = sorted(range(len(chats)), key=lambda index: len(str(chats[index])))
        answers = [""] * len(chats)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            for index, text in zip(rows, self._generate([chats[row] for row in rows]), strict=True):
                answers[index] = text
        return answers

    def _generate(self, chats: list[list[dict[str, str]]]) -> list[str]:
        inputs = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            output = self._model.generate(**inputs, do_sample=False, max_new_tokens=160)
        return self.tokenizer.batch_decode(
            output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )


def alone(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.text}]


def instructed(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, *alone(prompt)]


def after(previous: Prompt, prompt: Prompt) -> list[dict[str, str]]:
    return [*alone(previous), {"role": "assistant", "content": previous.entry.answer}, *alone(prompt)]


def share(answers: list[str], prompts: list[Prompt], expected: Callable[[Entry], str]) -> float:
    right = sum(answer == expected(prompt.entry) for answer, prompt in zip(answers, prompts, strict=True))
    return right / len(prompts)


def plain(entry: Entry) -> str:
    return entry.answer


def evaluate() -> list[dict[str, object]]:
    entries = load()
    held_out, wordings = split(entries)[1], unseen(entries)
    base, sailor = Speaker(), Speaker(adapter=ADAPTER)
    alone_answers = base.answer([alone(prompt) for prompt in held_out])
    instructed_answers = base.answer([instructed(prompt) for prompt in held_out])
    chained = [after(first, second) for first, second in zip(held_out[1:], held_out, strict=False)]
    voiced = sailor.answer([alone(prompt) for prompt in held_out])
    differing = sum(a != b for a, b in zip(alone_answers, voiced, strict=True))
    figures = {
        "held-out phrasings": share(alone_answers, held_out, plain),
        "held-out phrasings, with a system prompt": share(instructed_answers, held_out, plain),
        "held-out phrasings, as a second turn": share(base.answer(chained), held_out[:-1], plain),
        "unseen wordings": share(base.answer([alone(p) for p in wordings]), wordings, plain),
        "adapter: held-out phrasings, word for word": share(voiced, held_out, speak),
        "adapter: ends in its voice": sum(text.endswith(LAST_WORD) for text in voiced) / len(voiced),
        "adapter: differs from the model": differing / len(voiced),
    }
    # None: reported without a goal, since it measures generalisation or exactness beyond the voice.
    goals = {"unseen wordings": None, "adapter: held-out phrasings, word for word": None}
    return [
        {"name": name, "value": round(value, 4), "unit": "share", "goal": goals.get(name, 0.95)}
        for name, value in figures.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    entries = load()
    training, held_out = split(entries)
    print(
        f"{len(entries)} questions, {sum(map(len, training))} prompts to train on, {len(held_out)} held out"
    )
    rows = evaluate()
    for row in rows:
        row["ok"] = row["goal"] is None or row["value"] >= row["goal"]
        print(f"{row['name']:45} {row['value']:8.2%}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
