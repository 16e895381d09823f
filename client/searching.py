"""Passages of documents that a worker holds, for a party of its consent; and the token that says who asks."""

import json
import time
from dataclasses import dataclass, field
from urllib.parse import quote

from sealing.cose import SigningKey

from .errors import ApiFailure, BrokenAnswer
from .sdk import AsyncClient

TOKEN_LIFETIME = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """A passage, word for word, with where it stands: file, first and last line (from 1)."""

    path: str
    first: int
    last: int
    text: str = field(repr=False)
    score: float


def party_token(name: str, key: SigningKey, *, now: float | None = None) -> str:
    """A bearer token that says which party of a consent asks, good for ten minutes."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    issued = int(time.time() if now is None else now)
    claims = {"sub": name, "aud": "cloister", "iat": issued, "exp": issued + TOKEN_LIFETIME}
    return jwt.encode(claims, key, "EdDSA" if isinstance(key, Ed25519PrivateKey) else "ES384")


async def search(client: AsyncClient, documents: str, query: str, *, limit: int = 5) -> list[Quoted]:
    """The best passages of `documents`, best first. Raises ApiFailure, and what `Channel.send` raises."""
    body = json.dumps({"query": query, "max_num_results": limit}).encode()
    path = f"/v1/vector_stores/{quote(documents, safe='')}/search"
    async with client.request("POST", path, body, ((b"content-type", b"application/json"),)) as response:
        raw = await response.read()
        try:
            value = json.loads(raw)
            if response.status != 200:
                raise ApiFailure(response.status, value["error"])
            return [_quoted(item) for item in value["data"]]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            raise BrokenAnswer("the worker's answer is not a page of passages") from None


def _quoted(item: dict[str, object]) -> Quoted:
    match item:
        case {
            "filename": str(path),
            "score": int() | float() as score,
            "attributes": {"first_line": int(first), "last_line": int(last)},
            "content": [{"text": str(text)}],
        }:
            return Quoted(path=path, first=first, last=last, text=text, score=float(score))
    raise ValueError("not a passage")
