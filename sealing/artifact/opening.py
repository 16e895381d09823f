"""Opening chunks of an admitted artifact, each with the key of the run that sealed it."""

from bisect import bisect_right
from itertools import accumulate

from sealing.errors import LocalProtocolError
from sealing.octets import Octets

from .chunks import RunCipher
from .layout import Chunk
from .manifest import SignedManifest
from .secret import ReleasedSecret


class ChunkOpener:
    """Opens the chunks of one artifact. Holds run keys, not the data key."""

    def __init__(self, signed: SignedManifest, secret: ReleasedSecret, now: float) -> None:
        """Raises what `SignedManifest.admit` raises."""
        signed.admit(secret, now)
        manifest = signed.manifest
        self._firsts = [0, *accumulate(run.chunks for run in manifest.runs)]
        self._ciphers = [RunCipher(secret.key, manifest.id, run.id) for run in manifest.runs]

    def open_into(self, chunk: Chunk, ciphertext: Octets, into: memoryview | bytearray) -> None:
        """Write the chunk's plaintext. Raises ChunkRefused; `into` then holds nothing to be used."""
        if not self._ciphers:
            raise LocalProtocolError("the artifact was closed")
        place = bisect_right(self._firsts, chunk.counter) - 1
        self._ciphers[place].open_into(chunk, ciphertext, into)

    def forget(self) -> None:
        """Let go of the keys; nothing is opened after this."""
        self._ciphers.clear()
