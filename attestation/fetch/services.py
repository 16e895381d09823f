"""The vendors' services: which there are, and where. Nothing else is ever asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Self
from urllib.parse import urlsplit

from attestation.loopback import is_loopback


class Service(StrEnum):
    """A service that collateral comes from."""

    AMD_KDS = "amd-kds"
    INTEL_PCS = "intel-pcs"
    INTEL_CERTIFICATES = "intel-certificates"
    NVIDIA_RIM = "nvidia-rim"
    NVIDIA_OCSP = "nvidia-ocsp"


OFFICIAL: Mapping[Service, str] = MappingProxyType(
    {
        Service.AMD_KDS: "https://kdsintf.amd.com",
        Service.INTEL_PCS: "https://api.trustedservices.intel.com",
        Service.INTEL_CERTIFICATES: "https://certificates.trustedservices.intel.com",
        Service.NVIDIA_RIM: "https://rim.attestation.nvidia.com",
        Service.NVIDIA_OCSP: "https://ocsp.ndis.nvidia.com",
    }
)
"""The allow-list. A request names a service, never a host, so nothing in evidence can lead elsewhere."""


@dataclass(frozen=True, slots=True)
class Services:
    """Where each service is asked: the vendor's own host unless the caller named another.

    `pccs`: Intel's service is a PCCS (Intel's caching service), which serves the root CA's CRL too.
    `rim_key`: a bearer token for NVIDIA's RIM service; sent to NVIDIA's own host only.
    """

    bases: Mapping[Service, str] = field(default_factory=lambda: OFFICIAL)
    pccs: bool = False
    rim_key: str | None = field(default=None, repr=False)

    @classmethod
    def at(
        cls,
        elsewhere: Mapping[Service, str] | None = None,
        *,
        pccs: str | None = None,
        rim_key: str | None = None,
    ) -> Self:
        """The official services, but those in `elsewhere` at these base URLs, and Intel's at `pccs`.

        A base URL is https, or http on a loopback address; ValueError for any other, and for a key
        that is not printable ASCII.
        """
        if rim_key is not None and not (rim_key.isascii() and rim_key.isprintable()):
            raise ValueError("the key for the RIM service is not printable ASCII")
        bases = dict(OFFICIAL) | dict(elsewhere or {})
        if pccs is not None:
            bases |= {Service.INTEL_PCS: pccs, Service.INTEL_CERTIFICATES: pccs}
        checked = {service: _checked(url) for service, url in bases.items()}
        return cls(MappingProxyType(checked), pccs is not None, rim_key)

    def base(self, service: Service) -> str:
        """The base URL of `service`, without a final slash."""
        return self.bases[service]

    def official(self, service: Service) -> bool:
        """Whether `service` is the vendor's own host."""
        return self.bases[service] == OFFICIAL[service]


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not a base URL such as https://mirror.example/path")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"{url!r} is neither https nor http on a loopback address")
    _ = parts.port  # ValueError if it is no port
    return url.rstrip("/")
