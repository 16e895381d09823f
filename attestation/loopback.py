"""Which hosts are this machine itself: plaintext and simulated workers go no further unless one says so."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, is `localhost` or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
