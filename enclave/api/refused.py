"""Fields that OpenAI's clients may send and this worker cannot honour: refused by name, unless neutral."""

from collections.abc import Mapping
from typing import Any, Final

from .errors import ApiError

_HINTS: Final = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "prompt_cache_key": "send the header cloister-cache-salt instead",
    "prompt_cache_options": "send the header cloister-cache-salt instead",
}

CHAT: Final[Mapping[str, tuple[Any, ...]]] = {
    "audio": (None,),
    "function_call": (None, "none"),
    "functions": (None, []),
    "metadata": (None, {}),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "prediction": (None,),
    "prompt_cache_key": (None,),
    "prompt_cache_options": (None, {}),
    "prompt_cache_retention": (None, "in_memory"),
    "reasoning_effort": (None, "none"),
    "safety_identifier": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "user": (None,),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
}
"""Field by field the values that mean nothing more than leaving it out."""

COMPLETION: Final[Mapping[str, tuple[Any, ...]]] = {"suffix": (None, ""), "user": (None,)}
EMBEDDING: Final[Mapping[str, tuple[Any, ...]]] = {"user": (None,)}


def without(body: Mapping[str, Any], refused: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    """`body` without the fields in `refused`; ApiError 400 for one with a value that asks for something."""
    kept = {}
    for name, value in body.items():
        if name not in refused:
            kept[name] = value
        elif not any(type(value) is type(neutral) and value == neutral for neutral in refused[name]):
            raise unsupported(name)
    return kept


def unsupported(name: str) -> ApiError:
    """400 for a field that this worker does not know or cannot honour."""
    hint = _HINTS.get(name, "leave it out")
    return ApiError(400, f"{name} is not supported by this worker; {hint}", param=name, code="unsupported")
