"""Answers held to a grammar by llguidance: compiling within bounds, the tokens allowed next. No torch.

A grammar is text as llguidance spells it (its JSON form or Lark). Masks are bits, one a token of the
vocabulary, and are computed on threads of their own while the model runs.
"""

import json
import os
from collections.abc import Sequence as Rows
from concurrent.futures import Future, ThreadPoolExecutor

import llguidance.numpy as masks
import numpy as np
from llguidance import LLExecutor, LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from .interface import InvalidRequest, ModelRefused

MAX_CHARACTERS = 128 * 1024
_COMPILING = 2
_MAX_TOKENIZERS = 8
_LIMITS = LLParserLimits(
    max_items_in_row=2_000,
    initial_lexer_fuel=500_000,
    step_lexer_fuel=100_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=100_000,
)


class Matcher:
    """How far one answer is in its grammar. Not shared between requests."""

    def __init__(self, matcher: LLMatcher) -> None:
        self.matcher = matcher

    def accept(self, token: int) -> bool:
        """Take a token; True if the grammar allows nothing after it. Raises InvalidRequest."""
        if not self.matcher.consume_token(token):
            raise _refusal(self.matcher)
        return self.matcher.is_stopped()


class Grammars:
    """Compiles grammars for one vocabulary. `compile` is safe to call from any thread."""

    def __init__(self, tokenizer_json: bytes, vocabulary: int) -> None:
        """Raises ModelRefused for a tokenizer that llguidance cannot use."""
        self._json = tokenizer_json.decode(errors="replace")
        self._vocabulary = vocabulary
        self._tokenizers: dict[frozenset[int], LLTokenizer] = {}
        self._masking = LLExecutor(max(1, (os.cpu_count() or 1) // 2))
        self._pool = ThreadPoolExecutor(_COMPILING, thread_name_prefix="grammar")
        self._overlap = ThreadPoolExecutor(1, thread_name_prefix="masks")
        try:
            self._tokenizers[frozenset()] = LLTokenizer(self._json, n_vocab=vocabulary)
        except Exception as error:  # its bindings raise whatever its parser raises
            raise ModelRefused(f"tokenizer.json cannot be used for grammars: {error}") from None

    def compile(self, grammar: str, eos: frozenset[int]) -> Matcher:
        """A matcher at the start of the grammar. Raises InvalidRequest, saying why."""
        if len(grammar) > MAX_CHARACTERS:
            raise InvalidRequest(f"the grammar has {len(grammar)} characters; at most {MAX_CHARACTERS}")
        tokenizer = self._tokenizer(eos)
        try:
            matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
            if matcher.is_error():
                raise _refusal(matcher)
            first = matcher.deep_copy()  # the first mask is the slowest: it warms the lexer
            if not any(first.compute_bitmask()):
                raise InvalidRequest("the grammar allows no answer at all")
        except (InvalidRequest, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in its compiler derives from BaseException
            raise InvalidRequest(f"the grammar's compiler gave up ({type(error).__name__})") from None
        return Matcher(matcher)

    def start(self, grammar: str, eos: frozenset[int]) -> "Future[Matcher]":
        """`compile` on another thread."""
        return self._pool.submit(self.compile, grammar, eos)

    def begin_masks(self, matchers: Rows[Matcher | None]) -> "Future[NDArray[np.int32]]":
        """Start on the masks [rows, vocabulary / 32] of the rows that have a matcher; the rest allow all."""
        bits = masks.allocate_token_bitmask(len(matchers), self._vocabulary)
        rows = [(one.matcher, row) for row, one in enumerate(matchers) if one is not None]
        return self._overlap.submit(self._fill, rows, bits)

    def _fill(self, rows: list[tuple[LLMatcher, int]], bits: NDArray[np.int32]) -> NDArray[np.int32]:
        masks.fill_next_token_bitmask_par(self._masking, rows, bits)
        return bits

    def _tokenizer(self, eos: frozenset[int]) -> LLTokenizer:
        if any(not 0 <= token < self._vocabulary for token in eos):
            raise InvalidRequest("an end token is outside the vocabulary")
        if eos not in self._tokenizers:
            if len(self._tokenizers) >= _MAX_TOKENIZERS:
                raise InvalidRequest("too many different sets of end tokens with grammars")
            self._tokenizers[eos] = LLTokenizer(self._json, n_vocab=self._vocabulary, eos_token=sorted(eos))
        return self._tokenizers[eos]


def allowed(bits: NDArray[np.int32], vocabulary: int) -> NDArray[np.bool_]:
    """Masks as booleans [rows, vocabulary]."""
    unpacked = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")
    return unpacked[:, :vocabulary].view(np.bool_)


def regex_grammar(pattern: str) -> str:
    """A grammar for answers that match a regular expression as a whole."""
    return LLMatcher.grammar_from_regex(pattern)


def schema_grammar(schema: dict[str, object]) -> str:
    """A grammar for JSON answers that follow a JSON Schema, spaced as `json.dumps` does.

    Free white space would let a small model write nothing else to the end.
    """
    return LLMatcher.grammar_from_json_schema(
        json.dumps(schema),
        overrides={"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False},
    )


def _refusal(matcher: LLMatcher) -> InvalidRequest:
    words = matcher.get_error().split("\n")[0]
    return InvalidRequest(f"the grammar cannot be followed: {words[:300]}")
