"""Measurements against signed manifests: the right ones, genuine, current, and every value met."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from ..collateral import Kind
from ..context import Context
from ..errors import MalformedEvidence
from ..verdict import Sheet
from .chain import Certificate
from .checks import NvidiaCheck as Check
from .ocsp import Status, status
from .opaque import DISABLED
from .policy import DevicePolicy
from .report import GpuReport
from .rim import Golden, Rim, rim
from .roots import CORIM_ROOT, anchors

NVDEC0_INDEX = 35
ALWAYS = (Check.RIM_FOUND, Check.RIM_SIGNATURE, Check.RIM_SIGNER, Check.RIM_VALIDITY, Check.RIM_MEASUREMENTS)


@dataclass(frozen=True, slots=True)
class Offered:
    """The best manifest at hand for one component, or None."""

    component: str
    version: str | None
    products: frozenset[str]
    manifest: Rim | None

    def __str__(self) -> str:
        if self.manifest is None:
            return f"{self.component} {self.version}: none"
        return f"{self.component} {self.manifest.version} for {self.manifest.product}"

    @property
    def wanted(self) -> str:
        """What belongs here, for a reader."""
        return f"{self.component} {self.version} for {' or '.join(sorted(self.products))}"

    @property
    def fits(self) -> bool:
        """Whether there is one and it is for this chip; its version is the one it was found by."""
        return self.manifest is not None and self.manifest.product in self.products


def check_manifests(
    sheet: Sheet,
    report: GpuReport,
    versions: Mapping[str, str | None],
    chip: str,
    context: Context,
    rules: DevicePolicy,
) -> None:
    """Check the manifest of each component in `versions` ("driver", "VBIOS") and what they allow.

    A manifest is for this chip if it names it as the certificate does, or as the report does.
    """
    known, products = _manifests(context), frozenset({chip, report.opaque.chip_info or chip})
    offers = [
        Offered(component, version, products, _best(known, version, products, report, context))
        for component, version in versions.items()
    ]
    _check_found(sheet, offers)
    manifests = [offer.manifest for offer in offers if offer.manifest]
    if manifests:
        check_signers(sheet, manifests, context)
        check_status(
            sheet,
            Check.RIM_OCSP,
            [pair for m in manifests for pair in pairwise(m.certificates)],
            context,
            rules,
        )
        _check_measurements(sheet, report, offers)


def check_signers(sheet: Sheet, manifests: Iterable[Rim], context: Context) -> None:
    """Check that each manifest is what its signer signed, and that its signer may."""
    manifests = tuple(manifests)
    altered = [m.version for m in manifests if not m.intact]
    unsigned = [m.version for m in manifests if not m.signed]
    found = "; ".join(
        f"{', '.join(names)}: {what}"
        for names, what in ((altered, "the document was altered"), (unsigned, "not signed by its signer"))
        if names
    )
    sheet.record(Check.RIM_SIGNATURE, not altered and not unsigned, found or "valid", "valid")
    roots = anchors(context, CORIM_ROOT)
    if roots:
        strange = [m.signer.name for m in manifests if not any(m.chains_to(root) for root in roots)]
        sheet.record(Check.RIM_SIGNER, not strange, ", ".join(strange) or "pinned", "under the pinned root")
    else:
        sheet.unevaluable(Check.RIM_SIGNER, "no CoRIM root is among the policy's roots")
    expired = sorted({name for m in manifests for name in m.expired(context.now)})
    sheet.record(Check.RIM_VALIDITY, not expired, ", ".join(expired) or "valid", f"valid at {context.now}")


def check_status(
    sheet: Sheet,
    check: Check,
    pairs: Iterable[tuple[Certificate, Certificate]],
    context: Context,
    rules: DevicePolicy,
) -> None:
    """Check that no certificate is revoked; (certificate, issuer) pairs."""
    responses = context.collateral.of(Kind.NVIDIA_OCSP)
    said = [(each.name, status(each, issuer, responses, context.now)) for each, issuer in pairs]
    bad = {Status.REVOKED} | (set() if rules.allow_hold else {Status.HOLD})
    found = ", ".join(f"{name}: {what.value}" for name, what in said if what is not Status.GOOD)
    if any(what in bad for _, what in said):
        sheet.record(check, False, found, "good")
    elif not said or any(what is Status.MISSING for _, what in said):
        sheet.unevaluable(check, found or "no certificate to ask about", "a current response for each")
    else:
        sheet.record(check, True, found or "good", "good")


def _manifests(context: Context) -> list[Rim]:
    """The manifests that parse; one that does not is as good as absent."""
    found: list[Rim] = []
    for item in context.collateral.of(Kind.NVIDIA_RIM):
        try:
            found.append(rim(item))
        except MalformedEvidence:
            continue
    return found


def _best(
    known: Iterable[Rim], version: str | None, products: frozenset[str], report: GpuReport, context: Context
) -> Rim | None:
    """Of the manifests for `version` the one with the least against it.

    NVIDIA signs some anew, and publishes several for one version where boards differ: a manifest
    does not name its board, so of equally good ones the one that the device meets is taken.
    """
    roots = anchors(context, CORIM_ROOT)

    def merit(manifest: Rim) -> tuple[bool, ...]:
        return (
            manifest.product in products,
            manifest.intact and manifest.signed,
            any(manifest.chains_to(root) for root in roots),
            not manifest.expired(context.now),
            not _wrong(manifest.active, report),
        )

    matching = [m for m in known if version is not None and m.version.upper() == version.upper()]
    return max(matching, key=merit, default=None)


def _wrong(golden: Mapping[int, Golden], report: GpuReport) -> list[int]:
    """The indices at which the device differs: block index + 1; 35 does not count where NVDEC0 is off."""
    off = report.opaque.nvdec0_status == DISABLED
    return sorted(
        index
        for index, value in golden.items()
        if not (off and index == NVDEC0_INDEX) and not value.allows(report.measurement(index + 1))
    )


def _check_found(sheet: Sheet, offers: Iterable[Offered]) -> None:
    offers = tuple(offers)
    found = ", ".join(map(str, offers))
    expected = ", ".join(offer.wanted for offer in offers)
    strangers = [offer for offer in offers if offer.manifest and not offer.fits]
    if strangers or all(offer.fits for offer in offers):
        sheet.record(Check.RIM_FOUND, not strangers, found, expected)
    else:
        sheet.unevaluable(Check.RIM_FOUND, found, expected)


def _check_measurements(sheet: Sheet, report: GpuReport, offers: Iterable[Offered]) -> None:
    """Every active golden value against the device, and no index in two manifests."""
    offers = tuple(offers)
    golden: dict[int, Golden] = {}
    shared: set[int] = set()
    for offer in offers:
        active = offer.manifest.active if offer.manifest else {}
        shared |= golden.keys() & active.keys()
        golden |= active
    complete = all(offer.manifest for offer in offers)
    if shared or complete:
        found = f"both at {sorted(shared)}" if shared else "none"
        sheet.record(Check.RIM_CONFLICT, not shared, found, "no index active in two manifests")
    else:
        sheet.unevaluable(Check.RIM_CONFLICT, "a manifest is missing")
    wrong = _wrong(golden, report)
    empty = any(offer.manifest and not offer.manifest.active for offer in offers)
    expected = "every active measurement is one of the manifests' values"
    if wrong or empty:
        found = f"differs at {wrong}" if wrong else "a manifest without active measurements"
        sheet.record(Check.RIM_MEASUREMENTS, False, found, expected)
    elif complete:
        sheet.record(Check.RIM_MEASUREMENTS, True, f"{len(golden)} active, none differs", expected)
    else:
        sheet.unevaluable(
            Check.RIM_MEASUREMENTS, f"none of {len(golden)} differs, but a manifest is missing", expected
        )
