"""What a policy may say of Nitro documents: the [nitro] section."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from ..errors import PolicyError
from ..section import Section

PCR_SIZE = 48
LONGEST_AGE = 24 * 3600
LONGEST_SKEW = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroPolicy:
    """The [nitro] section. `pcrs` lists values by index; None is the spelled-out "any".

    `max_age` is the longest time from making the document to judging it, `max_clock_skew` how far
    ahead of the verifier the hypervisor's clock may be.
    """

    max_age: timedelta
    max_clock_skew: timedelta
    pcrs: Mapping[int, frozenset[bytes]] | None
    allow_debug: bool
    allow_missing_nonce: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        allow_any = section.flag("allow_any_pcrs")
        if allow_any == ("pcrs" in section):
            raise PolicyError(
                f'{section.name}: list values, for example [{section.name}.pcrs] with 0 = ["..."], or only'
                " if none is wanted allow_any_pcrs = true"
            )
        return cls(
            max_age=timedelta(seconds=section.integer("max_age", 1, LONGEST_AGE)),
            max_clock_skew=timedelta(seconds=section.integer("max_clock_skew", 0, LONGEST_SKEW, 0)),
            pcrs=None if allow_any else section.table("pcrs", _registers),
            allow_debug=section.flag("allow_debug"),
            allow_missing_nonce=section.flag("allow_missing_nonce"),
        )


def _registers(section: Section) -> Mapping[int, frozenset[bytes]]:
    found = {index: section.digests(str(index), PCR_SIZE) for index in range(32) if str(index) in section}
    if not found or not all(found.values()):
        raise PolicyError(f'[{section.name}] lists no value; write for example 0 = ["..."]')
    return found
