"""The words for real CPU TEEs: those of evidence, and those of a policy's sections."""

from typing import Final

import typer

_WORDS: Final = {"sev-snp": "sev-snp", "snp": "sev-snp", "tdx": "tdx"}


def one_word_for_each_tee(word: str | None) -> str | None:
    """The word that evidence has for the TEE. BadParameter for what is none."""
    if word is None or word in _WORDS:
        return word and _WORDS[word]
    raise typer.BadParameter(f"{word!r} is not one of {', '.join(sorted(set(_WORDS.values())))}")
