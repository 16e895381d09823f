"""The output rules of a consent, laid on a request before the application reads it.

What would let out more than was agreed is refused; what was left open is set to what was agreed.
"""

import json
from collections.abc import Callable
from typing import Any

from sealing.consent import OutputRules

Table = dict[str, Any]
_CALLS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls")
_LOGPROBS = ("logprobs", "top_logprobs")
AGREED = "consent"
"""The name of the schema that a consent fixes: no error quotes an answer that does not follow it."""


class RuleBroken(Exception):
    """A request that asks for more than the parties agreed to let out; `param` names the field."""

    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
        self.param = param


def knows(path: str) -> bool:
    """Whether there are rules for a call of `path`."""
    return path in _HANDLERS


def govern(rules: OutputRules, path: str, request: Table) -> Table:
    """`request` (the JSON of a call of `path`) under `rules`. Raises RuleBroken."""
    handler = _HANDLERS.get(path)
    if handler is None:
        raise RuleBroken(None, f"the consent in force does not allow {path}")
    return handler(rules, dict(request))


def _chat(rules: OutputRules, request: Table) -> Table:
    _check_logprobs(rules, request)
    limits = [n for n in ("max_completion_tokens", "max_tokens") if request.get(n) is not None]
    for name in limits or ["max_completion_tokens"]:
        request[name] = _capped(rules, name, request.get(name))
    if rules.schema is not None:
        _force_schema(request, json.loads(rules.schema))
    return request


def _completion(rules: OutputRules, request: Table) -> Table:
    if rules.schema is not None:
        raise RuleBroken(None, "the consent in force fixes a JSON Schema, which only chat completions keep")
    _check_logprobs(rules, request)
    request["max_tokens"] = _capped(rules, "max_tokens", request.get("max_tokens"))
    if request.get("echo"):
        raise RuleBroken("echo", "the consent in force does not allow echo")
    return request


def _check_logprobs(rules: OutputRules, request: Table) -> None:
    for name in _LOGPROBS:
        value = request.get(name)
        # For completions 0 asks for the chosen token's: only absence, null and false ask for none.
        if value is not None and value is not False and not rules.logprobs:
            raise RuleBroken(name, "the consent in force does not allow log-probabilities")
    if request.get("logit_bias") and not rules.logprobs:
        raise RuleBroken(
            "logit_bias", "the consent in force does not allow it: biases measure log-probabilities"
        )


def _capped(rules: OutputRules, name: str, value: Any) -> Any:
    if value is None:
        return rules.max_tokens
    if type(value) is not int:
        raise RuleBroken(name, f"{name} is not a whole number")
    return min(value, rules.max_tokens)


def _force_schema(request: Table, schema: Table) -> None:
    for name in _CALLS:
        if request.get(name) is not None:
            raise RuleBroken(name, "the consent in force fixes a JSON Schema, which calls would pass by")
    agreed = {"name": AGREED, "schema": schema, "strict": True}
    forced = {"type": "json_schema", "json_schema": agreed}
    if request.get("response_format") not in (None, forced):
        raise RuleBroken("response_format", "the consent in force fixes the JSON Schema of every answer")
    request["response_format"] = forced


_HANDLERS: dict[str, Callable[[OutputRules, Table], Table]] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
}
