"""Whether AES-GCM may work in shared memory directly, or needs a private copy of every record.

An AES-GCM that loads the ciphertext twice, once to decrypt it and once to hash it, can be given two different
ciphertexts by a host that writes in between, and accepts what nobody sent; one that hashes what it wrote can
be made to sign it (docs/adr/0010). Which it is depends on OpenSSL's code for the processor: the AVX-512 one
loads once. Direct work is allowed only where that is what runs, in a version that was attacked and held.
"""

import os
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.backends.openssl import backend

NEEDED: Final = frozenset(
    {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vbmi2", "vaes", "vpclmulqdq", "bmi2"}
)
ATTACKED: Final = frozenset({(4, 0)})
_OVERRIDE: Final = "OPENSSL_ia32cap"


@cache
def loads_once() -> bool:
    """Whether this process's AES-GCM reads each byte of a record once. False where that is not known."""
    if _OVERRIDE in os.environ or _openssl() not in ATTACKED:
        return False
    try:
        text = Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        return False
    flags = [line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")]
    return bool(flags) and all(NEEDED.issubset(each) for each in flags)


def _openssl() -> tuple[int, int]:
    number = backend.openssl_version_number()
    return number >> 28, number >> 20 & 0xFF
