"""A response of NRAS: a detached EAT bundle, an overall token and a token for each device."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ..encoding import strict_json
from ..errors import MalformedEvidence
from ..jose import Token

MAX_RESPONSE = 1024 * 1024
MAX_DEVICES = 64
MAX_NAME = 64
_REMOTE = {"REMOTE_GPU_CLAIMS", "REMOTE_SWITCH_CLAIMS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NrasResponse:
    """The overall token and the devices' by submodule name. Parsed, not verified."""

    overall: Token
    devices: Mapping[str, Token]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The JSON response in `raw`: [["JWT", token], {name: token}, ...]; else MalformedEvidence.

        NVIDIA's command line puts it into an object, as "detached_eat", its Python SDK into a token
        of its own, which no service signed and which is not looked at.
        """
        match _inner(strict_json(raw, limit=MAX_RESPONSE)):
            case [["JWT", str(overall)], *parts]:
                devices = _devices(parts)
            case _:
                raise MalformedEvidence("not an NRAS response with an overall token")
        return cls(overall=Token.from_compact(overall), devices=devices)


def _inner(value: Any) -> Any:
    """The service's response in what NVIDIA's tools make of it."""
    if isinstance(value, dict):
        value = value.get("detached_eat")
    match value:
        case [["JWT", str()], dict(named)] if len(named) == 1 and named.keys() <= _REMOTE:
            (value,) = named.values()
    return value


def _devices(parts: list[Any]) -> dict[str, Token]:
    found: dict[str, Token] = {}
    for part in parts:
        if not isinstance(part, dict):
            raise MalformedEvidence("an NRAS response's device tokens are not in an object")
        for name, text in part.items():
            if name in found or len(found) == MAX_DEVICES or len(name) > MAX_NAME:
                raise MalformedEvidence("an NRAS response names a device twice, or too many")
            if not isinstance(text, str):
                raise MalformedEvidence(f"the token of {name!r} is not a string")
            found[name] = Token.from_compact(text)
    return found
