"""What a receipt says that only the application knows: which model answered, and how many tokens it took.

The layer opens an account for a request that asks for a receipt; whatever starts a generation under that
request notes it there. Nobody else's code has to know of receipts.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

Usage = Callable[[], dict[str, int]]
"""Token counts so far, as OpenAI spells them."""


@dataclass(slots=True)
class Account:
    """The generations of one request: the name that was asked for, each one's counts, and what was loaded
    once it had begun."""

    workload: Callable[[], bytes]
    model: str = ""
    usages: list[Usage] = field(default_factory=list)
    workloads: list[bytes] = field(default_factory=list)

    def tokens(self, kind: str) -> int:
        """The sum of `kind`, "completion_tokens"; of prompts, which all choices share, the largest."""
        counts = [usage()[kind] for usage in self.usages]
        return max(counts, default=0) if kind == "prompt_tokens" else sum(counts)


OPEN: ContextVar[Account | None] = ContextVar("receipt_account", default=None)


def note(model: str, usage: Usage) -> None:
    """Enter a generation of `model` into the open account, if there is one."""
    account = OPEN.get()
    if account is not None:
        account.model = model
        account.usages.append(usage)
        account.workloads.append(account.workload())
