"""What a policy may say of other providers' documents: the [composite] section."""

from dataclasses import dataclass
from typing import Self

from ..section import Section

FORMATS = {"tinfoil-v3", "dstack"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositePolicy:
    """The [composite] section; hardware and devices have their own.

    `formats` are the documents that are accepted. `allow_unbound_devices` accepts devices that the
    CPU's report does not commit to: they answer the same nonce, but may be anybody's.
    """

    formats: frozenset[str]
    allow_unbound_devices: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing or unknown."""
        return cls(
            formats=section.choices("formats", FORMATS),
            allow_unbound_devices=section.flag("allow_unbound_devices"),
        )
