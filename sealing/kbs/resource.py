"""Names of resources: repository, type and tag, as a path and as a kbs:/// URI."""

import re
from dataclasses import dataclass
from typing import Self

from ..errors import MalformedMessage

_PART = r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]*"
_PATH = re.compile(rf"({_PART})/({_PART})/({_PART})")
MAX_PART = 128


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A resource's name; each part of 1 to 128 of `a-zA-Z0-9_.-`, not beginning with a dot."""

    repository: str
    type: str
    tag: str

    def __post_init__(self) -> None:
        parts = (self.repository, self.type, self.tag)
        if any(not re.fullmatch(_PART, part) or len(part) > MAX_PART for part in parts):
            raise MalformedMessage("a resource's name is repository/type/tag of letters, digits, _ . -")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name in `repository/type/tag` or `kbs:///repository/type/tag`; else MalformedMessage."""
        match = _PATH.fullmatch(text.removeprefix("kbs:///"))
        if match is None:
            raise MalformedMessage("a resource's name is repository/type/tag of letters, digits, _ . -")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"{self.repository}/{self.type}/{self.tag}"
