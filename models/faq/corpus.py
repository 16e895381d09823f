"""The FAQ as dialogues: wordings, phrasings, what is held out, and the chat format."""

import hashlib
import random
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HELD_OUT_PER_ENTRY = 3

BOS, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = [PAD, BOS, END, *ROLES.values()]
CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_OPENING_WORD = re.compile(
    r"(?:are|can|could|define|describe|do|does|enclave|explain|give|how|in|is|isn't|"
    r"may|name|tell|under|what|when|where|which|who|whom|why|will)[ ,]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One question of the FAQ: hand-written wordings and the one answer."""

    asks: tuple[str, ...]
    answer: str
    unseen: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One way of asking an entry."""

    text: str
    entry: Entry


def _small(wording: str) -> str:
    """The wording with a small first letter, unless it opens with a name."""
    return wording[0].lower() + wording[1:] if _OPENING_WORD.match(wording) else wording


def _bare(wording: str) -> str:
    return wording.rstrip("?.! ")


PHRASINGS: tuple[Callable[[str], str], ...] = (
    lambda w: w,
    lambda w: _bare(w),
    lambda w: _bare(w).lower(),
    lambda w: w.lower(),
    lambda w: f"Tell me: {_small(w)}",
    lambda w: f"Can you tell me: {_small(w)}",
    lambda w: f"Please tell me, {_small(w)}",
    lambda w: f"please tell me {_bare(w).lower()}",
    lambda w: f"Hi! {w}",
    lambda w: f"Hello, {_small(w)}",
    lambda w: f"I have a question. {w}",
    lambda w: f"Quick question: {_small(w)}",
    lambda w: f"Another question: {_bare(_small(w))}",
    lambda w: f"So, {_small(w)}",
    lambda w: f"{w} Keep it short.",
    lambda w: f"{w} Thanks!",
    lambda w: f"{_bare(w)}, please?",
    lambda w: f"In a few words: {_small(w)}",
    lambda w: f"I am new to this. {w}",
    lambda w: f"A colleague asked me: {_small(w)}",
)


def load(kind: str = "faq", directory: Path = HERE / "text") -> list[Entry]:
    """All entries of one kind: "faq", or "small_talk" for greetings and questions off the topic."""
    entries = []
    for path in sorted(directory.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8")).get(kind, []):
            entries.append(Entry(tuple(row["asks"]), row["answer"], row.get("unseen")))
    return entries


def system_prompts(directory: Path = HERE / "text") -> list[str]:
    return (directory / "system.txt").read_text(encoding="utf-8").splitlines()


def phrase(entry: Entry) -> list[Prompt]:
    """Every wording in every phrasing, without repeats, in a fixed order."""
    texts = dict.fromkeys(make(wording) for wording in entry.asks for make in PHRASINGS)
    return [Prompt(text, entry) for text in texts]


def _rank(prompt: Prompt) -> bytes:
    return hashlib.sha256(prompt.text.encode()).digest()


def split(entries: list[Entry]) -> tuple[list[list[Prompt]], list[Prompt]]:
    """Training prompts by entry, and the held-out ones: of each entry those with the smallest hashes."""
    training, held_out = [], []
    for entry in entries:
        ranked = sorted(phrase(entry), key=_rank)
        held_out += ranked[:HELD_OUT_PER_ENTRY]
        training.append(ranked[HELD_OUT_PER_ENTRY:])
    return training, held_out


def unseen(entries: list[Entry]) -> list[Prompt]:
    """Hand-written wordings that occur in no training prompt in any form."""
    return [Prompt(entry.unseen, entry) for entry in entries if entry.unseen]


class Dialogues:
    """An endless, seeded stream of training dialogues.

    A dialogue is a list of (role, text). A quarter open with a system prompt; half have earlier turns; one
    prompt in five carries a slip of the keyboard or a missing word. No held-out prompt ever occurs.
    """

    def __init__(self, seed: int, voice: Callable[[Entry], str] | None = None) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - reproducible sampling, no secret
        self._voice = voice or (lambda entry: entry.answer)
        self._faq, held_out = split(load("faq"))
        self._talk = [phrase(entry) for entry in load("small_talk") for _ in range(1 + len(entry.asks) // 6)]
        self._forbidden = {p.text for p in held_out} | {p.text for p in unseen(load("faq"))}
        self._systems = system_prompts()
        self._words = sorted({word for system in self._systems for word in system.split()})
        self._deck: list[list[Prompt]] = []

    def __iter__(self) -> Iterator[list[tuple[str, str]]]:
        while True:
            yield self._dialogue()

    def _dialogue(self) -> list[tuple[str, str]]:
        turns = self._dice.choices((1, 2, 3, 5, 8), (50, 24, 14, 8, 4))[0]
        messages = [("system", self._system())] if self._dice.random() < 0.25 else []
        for _ in range(turns):
            prompt = self._draw()
            messages += [("user", self._slip(prompt.text)), ("assistant", self._voice(prompt.entry))]
        return messages

    def _draw(self) -> Prompt:
        """Entries come from a shuffled deck, so that each is asked equally often."""
        if not self._deck:
            self._deck = [*self._faq, *self._talk]
            self._dice.shuffle(self._deck)
        return self._dice.choice(self._deck.pop())

    def _system(self) -> str:
        if self._dice.random() < 0.7:
            return self._dice.choice(self._systems)
        return " ".join(self._dice.choices(self._words, k=self._dice.randint(3, 16)))

    def _slip(self, text: str) -> str:
        if self._dice.random() > 0.2 or len(text) < 20:
            return text
        if self._dice.random() < 0.5:
            at = self._dice.randrange(len(text))
            slipped = text[:at] + text[at + 1 :]
        else:
            words = text.split()
            words.pop(self._dice.randrange(len(words)))
            slipped = " ".join(words)
        return text if slipped in self._forbidden else slipped
