"""Trains the shipped model, or its adapter, from the text beside this file.

    python models/faq/train.py                  # tokenizer and model, into models/faq/model
    python models/faq/train.py --adapter        # the sailor's LoRA adapter, into models/faq/adapters/sailor
    python models/faq/train.py --hashes         # no training: writes models/faq/HASHES

One thread, fixed seeds, a fixed number of steps: the same machine and versions give the same bytes.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from corpus import (
    BOS,
    CHAT_TEMPLATE,
    END,
    HERE,
    PAD,
    ROLES,
    SPECIAL_TOKENS,
    Dialogues,
    load,
    phrase,
    system_prompts,
)
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from voice import speak, speak_at_length

SEED = 20261124
VOCABULARY = 2048
CONTEXT = 1024
TOKENS_A_BATCH = 2048
POOL = 256
IGNORED = -100

Example = tuple[list[int], list[int]]


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer over the FAQ's wordings and its answers in both voices."""
    entries = load("faq") + load("small_talk")
    texts = [prompt.text for entry in entries for prompt in phrase(entry)[::4]]
    texts += [text for entry in entries for text in (entry.answer, speak_at_length(entry)) for _ in range(8)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts + system_prompts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES.values()),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, dialogue: list[tuple[str, str]]) -> Example:
    """Token ids and labels in the chat template's format; only answers and their ends are learned."""
    ids, labels = [tokenizer.bos_token_id], [IGNORED]
    for role, text in dialogue:
        body = tokenizer.encode(text.strip() + END, add_special_tokens=False)
        ids += [tokenizer.convert_tokens_to_ids(ROLES[role]), *body]
        labels += [IGNORED, *(body if role == "assistant" else [IGNORED] * len(body))]
    return ids[:CONTEXT], labels[:CONTEXT]


def batches(examples: Iterator[Example], pad: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded batches of at most TOKENS_A_BATCH tokens, of examples of similar length, in mixed order."""
    mixer = torch.Generator().manual_seed(SEED)
    while True:
        pool = sorted(islice(examples, POOL), key=lambda example: len(example[0]))
        rows: list[list[Example]] = [[]]
        for example in pool:
            if (len(rows[-1]) + 1) * len(example[0]) > TOKENS_A_BATCH:
                rows.append([])
            rows[-1].append(example)
        for index in torch.randperm(len(rows), generator=mixer).tolist():
            yield collate(rows[index], pad)


def collate(rows: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = [ids + [pad] * (width - len(ids)) for ids, _ in rows]
    labels = [labels + [IGNORED] * (width - len(labels)) for _, labels in rows]
    return torch.tensor(ids), torch.tensor(labels)


def loss_of(model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy over the answers' tokens; logits are computed for those alone.

    Padding is on the right and attention is causal, so no mask is needed.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORED
    logits = causal.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])


def optimize(
    model: torch.nn.Module, source: Iterator[tuple[torch.Tensor, torch.Tensor]], steps: int, rate: float
) -> None:
    """AdamW with a short warm-up and a linear descent to zero."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.95), weight_decay=0.02)
    warm_up = max(1, steps // 20)
    started = time.monotonic()
    model.train()
    for step, (ids, labels) in enumerate(islice(source, steps), start=1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / warm_up, (steps - step + 1) / (steps - warm_up + 1))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == steps:
            print(
                f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True
            )


def train_base(directory: Path, steps: int, rate: float) -> None:
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    examples = (encode(tokenizer, dialogue) for dialogue in Dialogues(SEED))
    optimize(model, batches(examples, tokenizer.pad_token_id), steps, rate)
    model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=160,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory, save_jinja_files=False)
    open_to_readers(directory)


def train_adapter(base: Path, directory: Path, steps: int, rate: float) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=modules, task_type="CAUSAL_LM")
    )
    examples = (encode(tokenizer, dialogue) for dialogue in Dialogues(SEED + 1, voice=speak))
    optimize(lora, batches(examples, tokenizer.pad_token_id), steps, rate)
    lora.peft_config["default"].base_model_name_or_path = "cloister-faq"
    for weight in lora.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    lora.save_pretrained(directory, save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)
    settle_order(directory / "adapter_config.json")
    open_to_readers(directory)


def settle_order(path: Path) -> None:
    """Sorts the adapter's target modules, which PEFT keeps in a set and writes in any order."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def open_to_readers(directory: Path) -> None:
    """Makes the saved files readable to everyone; safetensors writes them for the owner alone."""
    for path in directory.iterdir():
        path.chmod(0o644)


def write_hashes(root: Path = HERE) -> None:
    """SHA-256 of everything that ships, in the format of `sha256sum --check HASHES`."""
    paths = sorted(path for part in ("adapters", "model", "text") for path in (root / part).rglob("*.*"))
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}" for path in paths]
    (root / "HASHES").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapter", action="store_true", help="train the adapter on the model in --model")
    parser.add_argument("--model", type=Path, default=HERE / "model", help="where the model is or goes")
    parser.add_argument("--adapter-directory", type=Path, default=HERE / "adapters" / "sailor")
    parser.add_argument("--steps", type=int, help="default: 1600, adapter 450")
    parser.add_argument("--hashes", action="store_true", help="only write HASHES")
    options = parser.parse_args()
    if options.hashes:
        write_hashes()
        return
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if options.adapter:
        train_adapter(options.model, options.adapter_directory, options.steps or 450, rate=2e-3)
    else:
        train_base(options.model, options.steps or 1600, rate=4e-3)


if __name__ == "__main__":
    main()
