"""The pinned roots of NVIDIA's two hierarchies, as a policy trusts them."""

from ..context import Context
from .chain import Certificate, anchor

DEVICE_ROOT = "device_identity_ca"
CORIM_ROOT = "corim_signing_root_ca"


def anchors(context: Context, name: str) -> tuple[Certificate, ...]:
    """The policy's roots for NVIDIA whose file name begins with `name`."""
    found = context.policy.roots.der("nvidia")
    return tuple(anchor(root) for stem, root in found.items() if stem.startswith(name))
