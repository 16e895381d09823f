"""A model's tokenizer, chat template and end tokens, read without transformers or torch.

Raises ModelRefused for files that are missing or not understood.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer
from tokenizers import Tokenizer

from ..engine.interface import ModelRefused
from ..files import DirectoryFiles, FilesError, ModelFiles
from .chat import MAX_CHARACTERS, ChatTemplate, UnsupportedChat
from .detokenizer import Detokenizer
from .tool_form import TAGGED, ToolForm, form_of, told

_TOKENIZER = "tokenizer.json"
_TEMPLATE = "chat_template.jinja"
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class TextModel:
    """Text to token ids and back for one model. `clock` tells templates that ask for it the date."""

    def __init__(self, files: ModelFiles | Path, clock: Callable[[], datetime] = _utc_now) -> None:
        if isinstance(files, Path):
            files = _directory(files)
        path = f"{files.label}: {_TOKENIZER}"
        if _TOKENIZER not in files.sizes:
            raise ModelRefused(f"{files.label} has no {_TOKENIZER}: save the tokenizer in its fast form")
        source = _read(files, _TOKENIZER)
        self._tokenizer = _tokenizer(path, source)
        settings = _read(files, "tokenizer_config.json")
        added = [entry for entry in source.get("added_tokens") or [] if isinstance(entry, dict)]
        named = _named_tokens(files, settings)
        self.eos = _end_tokens(files, self._tokenizer, named.get("eos_token"))
        template = _template_source(files, settings)
        self._template: ChatTemplate | None = None
        self._own_form = form_of(template)
        self._source = json.dumps(source)
        self._bytes: LLTokenizer | None = None
        if template is not None:
            self._template = ChatTemplate(template, named, _control_tokens(added, template), clock)
        # Knows no control token: all that it encodes is characters. One for unknown characters does no harm.
        self._plain = _tokenizer(path, {**source, "added_tokens": []})
        unknown = self._tokenizer.token_to_id(str(named.get("unk_token")))
        self._added_ids = frozenset(int(entry["id"]) for entry in added) - {unknown}

    @property
    def vocabulary(self) -> int:
        """How many token ids the tokenizer knows; the model may have more rows, never fewer."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a raw prompt, with what the tokenizer adds to every text; control tokens in it count.

        Raises ValueError if the text is longer than MAX_CHARACTERS.
        """
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"the prompt has {len(text)} characters; the most is {MAX_CHARACTERS}")
        return tuple(self._tokenizer.encode(text).ids)

    def chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> tuple[int, ...]:
        """Ids of a conversation with the opening of the answer. Raises UnsupportedChat.

        `variables` (tools and so on) reach the template; None means absent.
        """
        if self._template is None:
            raise UnsupportedChat("this model has no chat template: use completions with a raw prompt")
        pieces = self._template.render(messages, **variables)
        ids: list[int] = []
        for text, literal in pieces:
            ids += (
                self._literal(text) if literal else self._tokenizer.encode(text, add_special_tokens=False).ids
            )
        return tuple(ids)

    @property
    def tool_form(self) -> ToolForm:
        """How this model writes calls of functions."""
        return self._own_form or TAGGED

    def conversation(
        self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[int, ...]:
        """Ids of a conversation with tools, as the template takes them or in words. UnsupportedChat.

        Turns are OpenAI's messages with plain text as content and decoded arguments.
        """
        if self._own_form is None:
            return self.chat(told(turns, tools))
        return self.chat(turns, tools=list(tools) or None)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a prompt's ids, control tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for; a control token's are its text's."""
        if self._bytes is None:
            self._bytes = LLTokenizer(self._source, slices=[])
        return self._bytes.decode_bytes([token])

    def detokenizer(self) -> Detokenizer:
        """A fresh one, for one answer."""
        return Detokenizer(self._tokenizer)

    def _literal(self, text: str) -> list[int]:
        """Ids of a control token's text as ordinary characters."""
        ids = list(self._plain.encode(text, add_special_tokens=False).ids)
        if self._added_ids.intersection(ids):
            raise UnsupportedChat(
                "a message contains a control token of the model, which cannot be written as text"
            )
        return ids


def _directory(path: Path) -> ModelFiles:
    try:
        return DirectoryFiles(path)
    except FilesError as error:
        raise ModelRefused(str(error)) from None


def _tokenizer(path: str, source: dict[str, Any]) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps({**source, "truncation": None, "padding": None}))
    except Exception as error:  # the tokenizers package raises nothing narrower
        raise ModelRefused(f"{path} is not a tokenizer: {error}") from error


def _read(files: ModelFiles, name: str) -> dict[str, Any]:
    """A JSON object; empty if there is no such file."""
    try:
        value = json.loads(files.read(name)) if name in files.sizes else {}
    except (FilesError, ValueError, RecursionError) as error:
        raise ModelRefused(f"{files.label}: {name} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelRefused(f"{files.label}: {name} does not hold a JSON object")
    return value


def _named_tokens(files: ModelFiles, settings: dict[str, Any]) -> dict[str, str]:
    """bos_token and so on, as the chat template sees them."""
    stored = {**_read(files, "special_tokens_map.json"), **settings}
    found = {}
    for name in _NAMED_TOKENS:
        value = stored.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def _control_tokens(added: list[dict[str, Any]], template: str) -> set[str]:
    """Texts that no message may write as tokens: the special ones, and others that the template writes."""
    texts = {str(entry["content"]): bool(entry.get("special")) for entry in added}
    return {text for text, special in texts.items() if special or (text.strip() and text in template)}


def _end_tokens(files: ModelFiles, tokenizer: Tokenizer, eos_token: str | None) -> frozenset[int]:
    """Every id that ends an answer: by generation_config, else config, and the tokenizer's own."""
    ends: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _read(files, name).get("eos_token_id")
        ends = {item for item in (value if isinstance(value, list) else [value]) if isinstance(item, int)}
        if ends:
            break
    own = tokenizer.token_to_id(eos_token) if eos_token is not None else None
    return frozenset(ends if own is None else ends | {own})


def _template_source(files: ModelFiles, settings: dict[str, Any]) -> str | None:
    if _TEMPLATE in files.sizes:
        try:
            return files.read(_TEMPLATE).decode()
        except (FilesError, UnicodeDecodeError) as error:
            raise ModelRefused(f"{files.label}: {_TEMPLATE} cannot be read: {error}") from error
    stored = _read(files, "chat_template.json").get("chat_template") or settings.get("chat_template")
    if isinstance(stored, list):
        stored = {entry.get("name"): entry.get("template") for entry in stored}.get("default")
    return stored if isinstance(stored, str) else None
