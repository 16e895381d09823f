"""Keys: one chain of secrets for each direction and class, walked forward only.

    secret_0     = HKDF-Expand(SPDM export master secret, "cloister/link/v1" || u8 direction || u8 class)
    secret_(g+1) = HKDF-Expand(secret_g, "next")         key_g = HKDF-Expand(secret_g, "key"), 32 bytes

over SHA-384, secrets of 48 bytes. Secrets lie in SecretMemory; the key in use lies, expanded, in OpenSSL's.
"""

import threading
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from enclave.gpu.bus import LinkBroken, Reason, Side
from enclave.gpu.bus.geometry import Class
from enclave.memory import PROTECTED, Kind, SecretMemory

LABEL: Final = b"cloister/link/v1"
SECRET: Final = 48
KEY: Final = 32
_CHAINS: Final = tuple((side, which) for side in Side for which in Class)


class Secrets:
    """The current secret of every chain of one session, in one SecretMemory.

    `master` is the SPDM export master secret, 48 bytes; it is not kept. Raises ValueError for another length,
    MemoryUnavailable.
    """

    def __init__(self, master: bytes | memoryview, *, kinds: tuple[Kind, ...] = PROTECTED) -> None:
        if len(master) != SECRET:
            raise ValueError(f"the export master secret is {SECRET} bytes")
        self._lock = threading.Lock()
        self._memory: SecretMemory | None = SecretMemory((len(_CHAINS) + 1) * SECRET, kinds=kinds)
        for index, (side, which) in enumerate(_CHAINS):
            _expand(master, LABEL + bytes((side, which)), _place(self._memory, index))

    def key(self, sender: Side, which: Class) -> AESGCM:
        """The key of the current generation. LinkBroken(CLOSED) once erased."""
        with self._lock:
            memory, index = self._open(), _CHAINS.index((sender, which))
            scratch = _place(memory, len(_CHAINS))[:KEY]
            _expand(_place(memory, index), b"key", scratch)
            key = AESGCM(scratch)
            _wipe_scratch(memory)
            return key

    def advance(self, sender: Side, which: Class) -> None:
        """Go on to the next generation; the secret before it is gone. LinkBroken(CLOSED) once erased."""
        with self._lock:
            memory, index = self._open(), _CHAINS.index((sender, which))
            current, scratch = _place(memory, index), _place(memory, len(_CHAINS))
            _expand(current, b"next", scratch)
            current[:] = scratch
            _wipe_scratch(memory)

    def erase(self) -> None:
        """Zero every secret; nothing happens the second time."""
        with self._lock:
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    def _open(self) -> SecretMemory:
        if self._memory is None:
            raise LinkBroken(Reason.CLOSED)
        return self._memory


def _place(memory: SecretMemory, index: int) -> memoryview:
    return memory.buffer[index * SECRET : (index + 1) * SECRET]


def _wipe_scratch(memory: SecretMemory) -> None:
    memory.wipe(len(_CHAINS) * SECRET)


def _expand(secret: bytes | memoryview, info: bytes, out: memoryview) -> None:
    HKDFExpand(SHA384(), len(out), info).derive_into(secret, out)
