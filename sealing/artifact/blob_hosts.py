"""Azure Blob Storage's own hosts: to whom a token of somebody's Azure identity may go for an artifact.

Any other host that is shown one could use it, and in its challenge ask for one for another service.
"""

import re
from typing import Final

_SUFFIX: Final = (
    r"blob\.core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)|z\d+\.blob\.storage\.azure\.net"
)
_HOST: Final = re.compile(rf"https://[a-z0-9-]+\.({_SUFFIX})(/|$)")


def takes_identity(url: str) -> bool:
    """Whether an https address, to the letter, is of such a host."""
    return _HOST.match(url) is not None
