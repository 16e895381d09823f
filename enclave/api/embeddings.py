"""POST /v1/embeddings: texts to vectors, as numbers or as base64 of little-endian float32."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

from enclave.receipts.account import note

from .errors import ApiError
from .schemas import EmbeddingsRequest
from .service import Caller, Service

MAX_TOKENS = 300_000
"""In one request, over all its texts."""


async def embeddings(
    service: Service, request: EmbeddingsRequest, caller: Caller, prompts: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    """The answer in OpenAI's shape. Raises ApiError."""
    count = sum(map(len, prompts))
    if count > MAX_TOKENS:
        raise ApiError(400, f"input has {count} tokens; a request has at most {MAX_TOKENS}", param="input")
    vectors = await service.embed(request.model, caller, prompts)
    size = len(vectors[0])
    if request.dimensions not in (None, size):
        message = f"dimensions: {request.model} gives {size} and no other number"
        raise ApiError(400, message, param="dimensions", code="unsupported")
    note(request.model, lambda: {"prompt_tokens": count, "completion_tokens": 0})
    spell = _base64 if request.encoding_format == "base64" else list
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": spell(v)} for at, v in enumerate(vectors)],
        "model": request.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
