"""What a policy may say of SGX enclaves: the [sgx] section."""

from dataclasses import dataclass
from typing import Self

from ..dcap.policy import DcapPolicy, platform_keys, report_data_keys
from ..errors import PolicyError
from ..section import Section


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxPolicy(DcapPolicy):
    """The [sgx] section. An enclave is known by MRENCLAVE, or by MRSIGNER and ISVPRODID together."""

    mrenclaves: frozenset[bytes]
    mrsigners: frozenset[bytes]
    isvprodid: int | None
    minimum_isvsvn: int
    allow_any_measurement: bool
    report_data: frozenset[bytes]
    allow_any_report_data: bool
    allow_debug: bool
    configids: frozenset[bytes]

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        enclaves, signers = section.digests("mrenclaves", 32, []), section.digests("mrsigners", 32, [])
        allow_any = section.flag("allow_any_measurement")
        if allow_any == bool(enclaves or signers):
            raise PolicyError(
                f"{section.name}: list mrenclaves or mrsigners, or only if neither is wanted"
                " allow_any_measurement = true"
            )
        return cls(
            **platform_keys(section),
            **report_data_keys(section),
            mrenclaves=enclaves,
            mrsigners=signers,
            isvprodid=section.integer("isvprodid", 0, 0xFFFF) if signers else None,
            minimum_isvsvn=section.integer("minimum_isvsvn", 0, 0xFFFF, 0),
            allow_any_measurement=allow_any,
            allow_debug=section.flag("allow_debug"),
            configids=section.digests("configids", 64, []) | {bytes(64)},
        )
