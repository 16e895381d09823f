"""Which files belong to a model, an adapter or documents, and the one hash over what they hold."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

MAX_PATH: Final = 512
MAX_SEGMENT: Final = 255
SAFETENSORS: Final = ".safetensors"
MODEL_NAMES: Final = frozenset(
    {
        "config.json",
        "generation_config.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "model.safetensors.index.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
    }
)


class Kind(StrEnum):
    """What an artifact holds."""

    MODEL = "model"
    ADAPTER = "adapter"
    DOCUMENTS = "documents"


def loading_reads(name: str) -> bool:
    """Whether loading a model or adapter may read a file of this name in its directory."""
    return name in MODEL_NAMES or (name.endswith(SAFETENSORS) and name != SAFETENSORS)


def is_path(text: str) -> bool:
    """Whether `text` is a relative path below its directory: no empty, `.` or `..` segment, no backslash."""
    segments = text.split("/")
    return (
        0 < len(text) <= MAX_PATH
        and text.isprintable()
        and "\\" not in text
        and all(0 < len(one) <= MAX_SEGMENT and one not in (".", "..") for one in segments)
    )


def content_root(digests: Mapping[str, bytes]) -> bytes:
    """SHA-256 over JCS of the sorted list of [path, SHA-256 in hexadecimal]; `digests` gives SHA-256 by path.

    Any changed, added, removed or renamed file changes the root. It is what a workload lists.
    """
    import rfc8785

    listing = [[path, digests[path].hex()] for path in sorted(digests)]
    return hashlib.sha256(rfc8785.dumps(listing)).digest()
