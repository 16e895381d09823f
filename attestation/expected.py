"""What a verifier expects evidence to carry, besides what its policy says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Values of one verification; None where there is none.

    `nonce`: the verifier's own. `nonce_age`: from making it to having the evidence. `report_data`:
    64 bytes. `user_data`, `public_key`: what Nitro, Azure and other documents bind besides.
    `runtime`: members of x-ms-runtime in a token of Azure Attestation.
    """

    nonce: bytes | None = None
    nonce_age: timedelta | None = None
    report_data: bytes | None = None
    user_data: bytes | None = None
    public_key: bytes | None = None
    runtime: Mapping[str, Any] | None = None

    @property
    def given(self) -> frozenset[str]:
        """The names of the values that evidence must carry."""
        return frozenset(name for name in _CARRIED if getattr(self, name) is not None)


_CARRIED = tuple(item.name for item in fields(Expected) if item.name != "nonce_age")
