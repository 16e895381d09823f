"""Tokens to text as they arrive: whole characters only, and stop strings across token borders."""

from collections.abc import Sequence

from tokenizers import Tokenizer

_REPLACEMENT = "\ufffd"
# A character is at most four bytes, so four tokens complete it; beyond that the bytes are simply not UTF-8.
_PENDING_LIMIT = 8
_MAX_STOPS = 16
_MAX_STOP_CHARACTERS = 1024


class Detokenizer:
    """Tokens of one answer to text. Special tokens give none; a character appears when it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Tokens already shown that decoding still needs to its left, and how many of them there are.
        self._tokens: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that this token completes, possibly none."""
        self._tokens.append(token)
        before, text = self._decode(self._tokens[: self._shown]), self._decode(self._tokens)
        pending = len(self._tokens) - self._shown
        if len(text) <= len(before) or (text.endswith(_REPLACEMENT) and pending < _PENDING_LIMIT):
            return ""
        return self._show(text[len(before) :])

    def flush(self) -> str:
        """What was held back, at the end of an answer. Bytes that are no character show as U+FFFD."""
        before, text = self._decode(self._tokens[: self._shown]), self._decode(self._tokens)
        return self._show(text[len(before) :])

    def _show(self, text: str) -> str:
        self._tokens = self._tokens[self._shown :]
        self._shown = len(self._tokens)
        return text

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


class StopStrings:
    """Cuts an answer before the first stop string, wherever token borders fall.

    Text that could begin a stop string is held back until it is decided. Raises ValueError for an empty
    stop string and for too many or too long ones.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if len(stops) > _MAX_STOPS or any(len(stop) > _MAX_STOP_CHARACTERS for stop in stops):
            raise ValueError(f"at most {_MAX_STOPS} stop strings of {_MAX_STOP_CHARACTERS} characters")
        if not all(stops):
            raise ValueError("a stop string is empty")
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What may be shown now. Once `stopped` is set, nothing follows."""
        if self.stopped:
            return ""
        held = self._held + text
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        keep = max((_overlap(held, stop) for stop in self._stops), default=0)
        cut = len(held) - keep
        self._held = held[cut:]
        return held[:cut]

    def flush(self) -> str:
        """What was held back, when the answer ends without a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
