"""The bundle `cloister/collateral/v1`: what an offline verifier needs, in one JSON file.

RFC 8785 JSON of {"format", "items"}; items are base64url by kind, as in an evidence bundle. It has
no signature of its own: each item is trusted only as far as it is signed, and key sets of token
services, which nobody signs, as far as whoever made the bundle.
"""

from ..collateral import Collateral, Kind
from ..encoding import canonical, canonical_json
from ..errors import CollateralUnavailable, MalformedEvidence
from ..values import exact

FORMAT = "cloister/collateral/v1"
MAX_BUNDLE = 16 * 1024 * 1024
MAX_ITEMS = 64
LIMITS = {Kind.AMD_CERTIFICATE: 32, Kind.AMD_CRL: 32}
"""Where one verification takes fewer items of a kind than a bundle does."""


def read_bundle(raw: bytes) -> Collateral:
    """The collateral in `raw`, at most 16 MiB; MalformedEvidence for any other form."""
    value = canonical_json(raw, limit=MAX_BUNDLE)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise MalformedEvidence(f"not a {FORMAT} document")
    return Collateral.from_json(exact(value, {"format", "items"}, "collateral bundle")["items"])


def write_bundle(collateral: Collateral) -> bytes:
    """The bundle of `collateral`; CollateralUnavailable if it is more than one verification takes."""
    for kind, items in collateral.items.items():
        limit = LIMITS.get(kind, MAX_ITEMS)
        if len(items) > limit:
            raise CollateralUnavailable(
                f"{len(items)} items of {kind} are more than the {limit} that one verification takes; "
                "name the evidence that the bundle is for"
            )
    raw = canonical({"format": FORMAT, "items": collateral.to_json()})
    if len(raw) > MAX_BUNDLE:
        raise CollateralUnavailable(
            f"a bundle of {len(raw)} bytes exceeds {MAX_BUNDLE}; name the evidence that it is for"
        )
    return raw
