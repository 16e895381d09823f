"""Jobs as JSON, the same for both engines."""

from typing import Any

from enclave.engine.interface import GenerationRequest, Priority, Sampling


def request(job: dict[str, Any]) -> GenerationRequest:
    """The request that a job spells; greedy unless its sampling says otherwise."""
    fields = dict(job)
    fields["prompt"] = tuple(fields["prompt"])
    fields["eos"] = frozenset(fields["eos"])
    rules = {"temperature": 0.0} | fields.pop("sampling", {})
    rules["logit_bias"] = tuple((token, bias) for token, bias in rules.get("logit_bias", ()))
    if share := fields.pop("share", None):
        fields["share"] = bytes.fromhex(share)
    priority = Priority(fields.pop("priority", "standard"))
    return GenerationRequest(sampling=Sampling(**rules), priority=priority, **fields)
