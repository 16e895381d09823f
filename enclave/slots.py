"""Places for private keys in secret memory, and one-time keys that were made before anybody asked for one."""

from sealing.hpke import PrivateKey

from .memory import Kind, SecretMemory

_KEY_SIZE = 32


class Slots:
    """Places for private keys of 32 bytes in one block of secret memory."""

    def __init__(self, count: int, kinds: tuple[Kind, ...]) -> None:
        self._memory = SecretMemory(count * _KEY_SIZE, kinds=kinds)
        self._free = list(range(count))

    @property
    def kind(self) -> Kind:
        """The kind of memory that the kernel granted."""
        return self._memory.kind

    def generate(self) -> int:
        """The number of a free place, now filled with a random key."""
        slot = self._free.pop()
        self._memory.fill_random(slot * _KEY_SIZE, (slot + 1) * _KEY_SIZE)
        return slot

    def key(self, kem: int) -> tuple[int, bytes]:
        """A fresh key of this KEM: its place, and its raw public key."""
        slot = self.generate()
        return slot, PrivateKey.from_bytes(kem, self.read(slot)).public_key

    def read(self, slot: int) -> memoryview:
        """The 32 bytes at `slot`."""
        return self._memory.buffer[slot * _KEY_SIZE : (slot + 1) * _KEY_SIZE]

    def erase(self, slot: int) -> None:
        """Zero the place and free it."""
        self._memory.wipe(slot * _KEY_SIZE, (slot + 1) * _KEY_SIZE)
        self._free.append(slot)

    def close(self) -> None:
        """Zero everything; no key can be read any more."""
        self._memory.close()


class Prepared:
    """Keys that nobody was given yet, at most `most`: a request then does not wait for one to be made.

    Each leaves by `take`, once. Not safe for several threads by itself.
    """

    def __init__(self, slots: Slots, kem: int, most: int) -> None:
        self._slots = slots
        self._kem = kem
        self._most = most
        self._keys: list[tuple[int, bytes]] = []

    def add(self) -> bool:
        """Make one more; False if there are as many as there may be."""
        if len(self._keys) >= self._most:
            return False
        self._keys.append(self._slots.key(self._kem))
        return True

    def take(self) -> tuple[int, bytes] | None:
        """Place and public key of one, which is the caller's from now on; None if there is none."""
        return self._keys.pop() if self._keys else None

    def drop(self) -> None:
        """Erase them all."""
        while self._keys:
            self._slots.erase(self._keys.pop()[0])
