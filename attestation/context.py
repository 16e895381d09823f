"""What every appraiser is given: the policy, the collateral and the clock. Nothing else comes in."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from .collateral import Collateral

if TYPE_CHECKING:  # policy.py imports the TEEs' policies, and the TEEs import this
    from .policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The surroundings of one verification; `now` is timezone-aware."""

    policy: "Policy"
    collateral: Collateral
    now: datetime
