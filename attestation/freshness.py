"""How old evidence may be: from making the nonce to having the answer."""

from datetime import timedelta

from .checks import CheckId
from .policy import Policy
from .verdict import Sheet


def check_age(sheet: Sheet, check: CheckId, policy: Policy, age: timedelta | None) -> None:
    """Record whether evidence came soon enough after its nonce was made."""
    limit = policy.max_nonce_age
    wanted = f"at most {limit.total_seconds():.0f} s"
    if age is None:
        sheet.unevaluable(check, "when the nonce was made is not known", wanted)
    else:
        sheet.record(check, timedelta() <= age <= limit, f"{age.total_seconds():.1f} s", wanted)
