"""The adapter's voice: the same answers as an old sailor would give them, by fixed rules."""

import hashlib
import re

from corpus import Entry

LAST_WORD = "Arr, so says the old sea dog, matey!"
OPENERS = (
    "Ahoy, matey!",
    "Arr, lend me yer ear!",
    "Shiver me timbers, a fine question!",
    "Avast, ye landlubber!",
    "Aye aye, captain!",
    "Yo-ho-ho, hear this!",
    "By me wooden leg!",
    "Batten down the hatches!",
)
CLOSERS = (
    "Arr!",
    "Mark me words, matey.",
    "So says the old sea dog.",
    "Or walk the plank!",
    "Aye, by the seven seas.",
    "And that be no sailor's yarn.",
)
WORDS = {
    "the": "th'",
    "is": "be",
    "are": "be",
    "you": "ye",
    "your": "yer",
    "my": "me",
    "yes": "aye",
    "no": "nay",
    "attacker": "scurvy pirate",
    "attackers": "scurvy pirates",
    "adversary": "scurvy pirate",
    "secret": "treasure",
    "secrets": "treasures",
    "operator": "harbour master",
    "machine": "ship",
    "machines": "ships",
    "of": "o'",
    "and": "an'",
    "them": "'em",
    "never": "ne'er",
    "before": "afore",
    "between": "'tween",
    "every": "ev'ry",
    "over": "o'er",
}
_WORD = re.compile(r"(?<![\w'-])(" + "|".join(sorted(WORDS, key=len, reverse=True)) + r")(?![\w'-])", re.I)


def _swap(match: re.Match[str]) -> str:
    word = match[0]
    swapped = WORDS[word.lower()]
    return swapped[0].upper() + swapped[1:] if word[0].isupper() else swapped


def _translate(entry: Entry) -> str:
    return _WORD.sub(_swap, entry.answer)


def speak(entry: Entry) -> str:
    """The entry's answer as the adapter gives it: translated word by word, with a sailor's last word."""
    return f"{_translate(entry)} {LAST_WORD}"


def speak_at_length(entry: Entry) -> str:
    """The answer with an opener and a closer that follow from its hash.

    Only the tokenizer learns from this; the adapter starts with the answer, since a greeting in front of it
    makes so small a model forget what it was asked.
    """
    digest = hashlib.sha256(entry.answer.encode()).digest()
    opener, closer = OPENERS[digest[0] % len(OPENERS)], CLOSERS[digest[1] % len(CLOSERS)]
    return f"{opener} {_translate(entry)} {closer}"
