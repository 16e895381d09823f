"""The [snp] section of a policy: strict by default, every weakening a key of its own."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from ..errors import PolicyError
from ..section import MISSING, Section
from .flags import GuestFlag, PlatformInfo
from .product import Product, Tcb

GUEST_REQUIREMENTS = {
    "single-socket": GuestFlag.SINGLE_SOCKET,
    "mem-aes-256-xts": GuestFlag.MEM_AES_256_XTS,
    "rapl-disabled": GuestFlag.RAPL_DISABLED,
    "ciphertext-hiding": GuestFlag.CIPHERTEXT_HIDING,
    "page-swap-disabled": GuestFlag.PAGE_SWAP_DISABLED,
}
PLATFORM_REQUIREMENTS = {
    "tsme": PlatformInfo.TSME,
    "ecc": PlatformInfo.ECC,
    "rapl-disabled": PlatformInfo.RAPL_DISABLED,
    "ciphertext-hiding": PlatformInfo.CIPHERTEXT_HIDING,
    "iommu-write-safe": PlatformInfo.IOMMU_WRITE_SAFE,
    "tio": PlatformInfo.TIO,
}
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})")
_HOST_VMPL = 0xFFFFFFFF  # a report that the host requested
_ALL_64 = (1 << 63) - 1  # TOML integers are signed


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPolicy:
    """What a relying party accepts of a SEV-SNP report.

    A set that is None stands for "any", as the policy spelled out. Sizes as in `SnpReport`.
    """

    products: frozenset[Product]
    measurements: frozenset[bytes] | None
    report_data: frozenset[bytes] | None
    host_data: frozenset[bytes] | None
    family_ids: frozenset[bytes] | None
    image_ids: frozenset[bytes] | None
    id_key_digests: frozenset[bytes] | None
    author_key_digests: frozenset[bytes] | None
    report_ids: frozenset[bytes] | None
    migration_report_ids: frozenset[bytes] | None
    chip_ids: frozenset[bytes] | None
    csp_ids: frozenset[str] | None
    minimum_tcb: Mapping[Product, Tcb] | None
    vmpls: frozenset[int]
    minimum_guest_svn: int
    minimum_report_version: int
    minimum_guest_abi: tuple[int, int]
    minimum_version: tuple[int, int]
    minimum_build: int
    require_launch_mitigations: int
    require_current_mitigations: int
    require_guest: GuestFlag
    require_platform: PlatformInfo
    allow_debug: bool
    allow_migrate_ma: bool
    allow_smt: bool
    allow_cxl: bool
    allow_tio: bool
    allow_missing_alias_check: bool
    allow_unknown_platform_bits: bool
    allow_provisional_firmware: bool
    allow_vlek: bool
    allow_masked_chip_id: bool
    allow_missing_crl: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The section; PolicyError for what is missing, unknown or contradictory."""
        hint = 'name the product lines you trust, for example ["Genoa", "Turin"]'
        names = section.choices("products", {str(product) for product in Product})
        if not names:
            raise PolicyError(f"{section.name}.products is empty; {hint}")
        products = frozenset(Product(name) for name in names)
        any_id_block = section.flag("allow_any_id_block")
        migrates = section.flag("allow_migrate_ma")
        vlek = section.flag("allow_vlek")
        return cls(
            products=products,
            measurements=_named(section, "measurements", 48, "allow_any_measurement"),
            report_data=_report_data(section),
            host_data=_named(section, "host_data", 32, "allow_any_host_data", zero=True),
            family_ids=_id_block(section, "family_ids", 16, any_id_block),
            image_ids=_id_block(section, "image_ids", 16, any_id_block),
            id_key_digests=_id_block(section, "id_key_digests", 48, any_id_block),
            author_key_digests=_id_block(section, "author_key_digests", 48, any_id_block),
            report_ids=_listed(section, "report_ids", 32),
            migration_report_ids=_migration(section, migrates),
            chip_ids=_listed(section, "chip_ids", 64),
            csp_ids=_csp_ids(section, vlek),
            minimum_tcb=_minimum_tcb(section, products),
            vmpls=_vmpls(section),
            minimum_guest_svn=section.integer("minimum_guest_svn", 0, 0xFFFFFFFF, 0),
            minimum_report_version=section.integer("minimum_report_version", 2, 5, 2),
            minimum_guest_abi=_version(section, "minimum_guest_abi"),
            minimum_version=_version(section, "minimum_version"),
            minimum_build=section.integer("minimum_build", 0, 0xFF, 0),
            require_launch_mitigations=section.integer("require_launch_mitigations", 0, _ALL_64, 0),
            require_current_mitigations=section.integer("require_current_mitigations", 0, _ALL_64, 0),
            require_guest=_guest_flags(section),
            require_platform=_platform_bits(section),
            allow_debug=section.flag("allow_debug"),
            allow_migrate_ma=migrates,
            allow_smt=section.flag("allow_smt"),
            allow_cxl=section.flag("allow_cxl"),
            allow_tio=section.flag("allow_tio"),
            allow_missing_alias_check=section.flag("allow_missing_alias_check"),
            allow_unknown_platform_bits=section.flag("allow_unknown_platform_bits"),
            allow_provisional_firmware=section.flag("allow_provisional_firmware"),
            allow_vlek=vlek,
            allow_masked_chip_id=section.flag("allow_masked_chip_id"),
            allow_missing_crl=section.flag("allow_missing_crl"),
        )


def _named(
    section: Section, key: str, size: int, weakening: str, *, zero: bool = False
) -> frozenset[bytes] | None:
    """The values of `key`, or None under `weakening = true`; not both. `zero`: the default is all zeros."""
    if section.flag(weakening):
        if key in section:
            raise PolicyError(f"{section.name}: write {key} or {weakening}, not both")
        section.digests(key, size, [])
        return None
    default = ["00" * size] if zero else MISSING
    values = section.digests(key, size, default, hint=f"list values, or write {weakening} = true")
    if not values:
        raise PolicyError(f"{section.name}.{key} is empty: nothing could pass; or write {weakening} = true")
    return values


def _report_data(section: Section) -> frozenset[bytes] | None:
    """The values for reports outside a bundle; empty if the caller has to bring one."""
    if "report_data" in section or section.flag("allow_any_report_data"):
        return _named(section, "report_data", 64, "allow_any_report_data")
    return section.digests("report_data", 64, [])


def _id_block(section: Section, key: str, size: int, any_value: bool) -> frozenset[bytes] | None:
    """The values of one ID-block field; all zeros, that is no ID block, unless the policy says more."""
    if any_value and key not in section:
        section.digests(key, size, [])
        return None
    return section.digests(key, size, ["00" * size])


def _listed(section: Section, key: str, size: int) -> frozenset[bytes] | None:
    """The values of an allow-list that a policy may have; None without it."""
    return section.digests(key, size) if key in section else section.digests(key, size, []) or None


def _migration(section: Section, migrates: bool) -> frozenset[bytes] | None:
    """The REPORT_IDs of migration agents; without `allow_migrate_ma` there may be none."""
    values = _listed(section, "migration_report_ids", 32)
    if values is not None and not migrates:
        raise PolicyError(f"{section.name}.migration_report_ids goes only with allow_migrate_ma = true")
    return values if migrates else frozenset({b"\xff" * 32})


def _csp_ids(section: Section, vlek: bool) -> frozenset[str] | None:
    if "csp_ids" in section and not vlek:
        raise PolicyError(f"{section.name}.csp_ids goes only with allow_vlek = true")
    if section.flag("allow_any_csp") and not section.texts("csp_ids", []):
        return None
    hint = "name the providers, or write allow_any_csp = true"
    return section.texts("csp_ids", MISSING if vlek else [], hint=hint)


def _minimum_tcb(section: Section, products: frozenset[Product]) -> Mapping[Product, Tcb] | None:
    """The least TCB of each line in `products`; None under `allow_any_tcb = true`."""
    any_tcb = section.flag("allow_any_tcb")
    none: dict[Product, Tcb] = {}
    floors = section.table("minimum_tcb", lambda table: _floors(table, products), none)
    if any_tcb:
        if floors:
            raise PolicyError(f"{section.name}: write minimum_tcb or allow_any_tcb, not both")
        return None
    for product in sorted(products - floors.keys()):
        raise PolicyError(f"[{section.name}.minimum_tcb.{product}] is missing; or write allow_any_tcb = true")
    return MappingProxyType(floors)


def _floors(section: Section, products: frozenset[Product]) -> dict[Product, Tcb]:
    floors = {product: section.table(str(product), _floor(product), None) for product in Product}
    for product, floor in floors.items():
        if floor is not None and product not in products:
            raise PolicyError(f"{section.name}.{product} is not among the products")
    return {product: floor for product, floor in floors.items() if floor is not None}


def _floor(product: Product) -> Callable[[Section], Tcb | None]:
    def parse(section: Section) -> Tcb | None:
        level = {name: section.integer(name, 0, 255) for name in ("bl", "tee", "snp", "ucode")}
        if product is Product.TURIN:
            return Tcb(fmc=section.integer("fmc", 0, 255), **level)
        return Tcb(**level)

    return parse


def _vmpls(section: Section) -> frozenset[int]:
    values = section.take("vmpls", list, [0])
    for value in values:
        if type(value) is not int or not (0 <= value <= 3 or value == _HOST_VMPL):
            raise PolicyError(f"{section.name}.vmpls holds {value!r}, not a VMPL from 0 to 3")
    return frozenset(values)


def _version(section: Section, key: str) -> tuple[int, int]:
    text = section.take(key, str, "0.0")
    match = _VERSION.fullmatch(text)
    if not match:
        raise PolicyError(f'{section.name}.{key} is {text!r}; write for example "1.55"')
    return int(match[1]), int(match[2])


def _guest_flags(section: Section) -> GuestFlag:
    flags = GuestFlag(0)
    for name in section.choices("require_guest", set(GUEST_REQUIREMENTS), []):
        flags |= GUEST_REQUIREMENTS[name]
    return flags


def _platform_bits(section: Section) -> PlatformInfo:
    bits = PlatformInfo(0)
    for name in section.choices("require_platform", set(PLATFORM_REQUIREMENTS), []):
        bits |= PLATFORM_REQUIREMENTS[name]
    return bits
