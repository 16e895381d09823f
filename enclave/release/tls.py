"""TLS 1.3 as a client, by pyOpenSSL, whose OpenSSL offers X25519MLKEM768 first; names and chains are checked
by `cryptography` before a byte is sent."""

import io
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from OpenSSL import SSL

_PIECE = 1 << 16


class TlsSocket:
    """What `http.client` needs of a socket, over TLS by way of memory."""

    def __init__(self, raw: socket.socket, host: str, *, tls12: bool = False) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION if tls12 else SSL.TLS1_3_VERSION)
        self._raw = raw
        self._readers, self._closed = 0, False
        self._tls = SSL.Connection(context, None)
        if _address(host) is None:
            self._tls.set_tlsext_host_name(host.encode("idna"))
        self._tls.set_connect_state()

    @property
    def group(self) -> str | None:
        """The key agreement that was used."""
        return self._tls.get_group_name()

    def handshake(self) -> Sequence[x509.Certificate]:
        """Agree on keys; the peer's chain, leaf first, unverified."""
        self._carried(self._tls.do_handshake)
        return self._tls.get_peer_cert_chain(as_cryptography=True) or []

    def sendall(self, data: Any) -> None:
        """Send `data`."""
        try:
            self._tls.sendall(bytes(data))
        except SSL.Error as error:
            raise OSError(f"TLS failed: {error}") from None
        self._flush()

    def recv_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with what comes next; 0 at the end that the peer announced."""
        try:
            data = self._carried(lambda: self._tls.recv(len(buffer)))
        except SSL.ZeroReturnError:
            return 0
        buffer[: len(data)] = data
        return len(data)

    def makefile(self, _mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        """A reader over the connection, which stays open as long as it does, as with any socket."""
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Close it, once its last reader is."""
        self._closed = True
        if not self._readers:
            with suppress(OSError):
                self._raw.close()

    def reader_closed(self) -> None:
        """One reader less."""
        self._readers -= 1
        if self._closed:
            self.close()

    def _carried(self, step: Any) -> Any:
        while True:
            try:
                result = step()
            except SSL.WantReadError:
                self._flush()
                data = self._raw.recv(_PIECE)
                if not data:
                    raise OSError("the connection was cut off") from None
                self._tls.bio_write(data)
                continue
            except SSL.ZeroReturnError:
                raise
            except SSL.Error as error:
                raise OSError(f"TLS failed: {error}") from None
            self._flush()
            return result

    def _flush(self) -> None:
        with suppress(SSL.WantReadError):
            while True:
                self._raw.sendall(self._tls.bio_read(_PIECE))


class _Reader(io.RawIOBase):
    def __init__(self, tls: TlsSocket) -> None:
        self._tls = tls

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._tls.reader_closed()

    def readinto(self, buffer: Any) -> int:
        return self._tls.recv_into(memoryview(buffer))


def connect(host: str, port: int, ca: bytes | None, timeout: float, *, tls12: bool = False) -> TlsSocket:
    """A connection to whoever proves to be `host` under `ca` (PEM), or the system's roots. Raises OSError."""
    roots = x509.load_pem_x509_certificates(ca) if ca is not None else system_roots()
    raw = socket.create_connection((host, port), timeout)
    tls = TlsSocket(raw, host, tls12=tls12)
    try:
        leaf, *between = tls.handshake()
        builder = PolicyBuilder().store(Store(roots)).time(datetime.now(UTC))
        address = _address(host)
        subject = x509.IPAddress(address) if address else x509.DNSName(host)
        builder.build_server_verifier(subject).verify(leaf, between)
    except (VerificationError, ValueError) as error:
        tls.close()
        raise OSError(f"the certificate is not {host}'s: {error}") from None
    except OSError:
        tls.close()
        raise
    return tls


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def system_roots() -> list[x509.Certificate]:
    """The certificates that this system trusts. Raises OSError where it has no file of them."""
    file = ssl.get_default_verify_paths().cafile
    if file is None:
        raise OSError("this system has no file of root certificates: name the broker's with ca")
    return x509.load_pem_x509_certificates(Path(file).read_bytes())
