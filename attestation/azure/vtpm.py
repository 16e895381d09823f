"""Judging an Azure confidential VM: hardware report -> runtime data -> attestation key -> quote."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from .. import snp, tdx
from ..checks import CheckId
from ..context import Context
from ..tpm.appraisal import check_sizes
from ..tpm.checks import TpmCheck
from ..tpm.quote import PcrValues
from ..tpm.quoted import SignedQuote, check_nonce, check_registers, check_signatures
from ..verdict import Sheet
from .checks import AzureCheck as Check
from .hcl import HclReport, ReportType
from .policy import VtpmPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmEvidence:
    """What a machine sends: the HCL report, one quote of its virtual TPM, the registers by bank.

    There is no field for an attestation key: only the runtime data's counts. Parsed, not verified.
    """

    hcl: HclReport
    quote: SignedQuote | None = None
    pcrs: PcrValues = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def from_parts(
        cls, hcl: bytes, *, quote: tuple[bytes, bytes] | None = None, pcrs: PcrValues = MappingProxyType({})
    ) -> Self:
        """The parts as bytes; `quote` is TPMS_ATTEST and its signature, bare or TPMT_SIGNATURE."""
        check_sizes(pcrs)
        signed = SignedQuote.from_bytes(*quote) if quote is not None else None
        return cls(hcl=HclReport.from_bytes(hcl), quote=signed, pcrs=pcrs)


def appraise_snp(
    evidence: VtpmEvidence,
    endorsements: Sequence[bytes],
    context: Context,
    rules: VtpmPolicy,
    *,
    subject: str,
    nonce: bytes | None,
    user_data: bytes | None = None,
) -> tuple[Sheet, Sheet]:
    """The sheets of a machine on SEV-SNP: the hardware's under `subject`, and "<subject>.vtpm".

    `endorsements` as for `snp.appraise`, whose policy section judges the report. `nonce` is what the
    quote must carry as extraData: for our bundles the 48-byte digest of the report data. None
    makes that check unevaluable. `user_data`, 64 bytes, is compared if given.
    """
    data = evidence.hcl.report_data
    hardware = snp.appraise(evidence.hcl.hardware, endorsements, context, subject=subject, report_data=data)
    sheet = _appraise(evidence, rules, ReportType.SNP, f"{subject}.vtpm", nonce, user_data)
    return hardware, sheet


def appraise_tdx(
    evidence: VtpmEvidence,
    quote: bytes | None,
    context: Context,
    rules: VtpmPolicy,
    *,
    subject: str,
    nonce: bytes | None,
    user_data: bytes | None = None,
) -> tuple[Sheet, Sheet]:
    """The sheets of a machine on TDX; as `appraise_snp`, with the TD quote over the runtime data."""
    data = evidence.hcl.report_data
    if quote is None:
        # The TDREPORT in the HCL report is only authenticated within its own machine.
        hardware = Sheet(subject, {Check.HARDWARE})
        hardware.unevaluable(Check.HARDWARE, "no TD quote was given", "a TD quote over the runtime data")
    else:
        hardware = tdx.appraise(quote, context, subject=subject, report_data=data)
    return hardware, _appraise(evidence, rules, ReportType.TDX, f"{subject}.vtpm", nonce, user_data)


def _appraise(
    evidence: VtpmEvidence,
    rules: VtpmPolicy,
    kind: ReportType,
    subject: str,
    nonce: bytes | None,
    user_data: bytes | None,
) -> Sheet:
    """The virtual TPM's sheet.

    1. the hardware report is of this TEE, and binds the runtime data;
    2. the machine is configured as the policy wants;
    3. the runtime data's key signed the quote over this nonce, and over these registers.
    """
    hcl = evidence.hcl
    sheet = Sheet(subject, _required(evidence, rules, nonce, user_data))
    sheet.record(Check.HARDWARE, hcl.report_type is kind, hcl.report_type.name, kind.name)  # 1
    sheet.equal(Check.RUNTIME, hcl.hardware_data, hcl.report_data)
    _check_configuration(sheet, hcl, rules)  # 2
    if user_data is not None:
        sheet.record(Check.USER_DATA, hcl.user_data == user_data.hex(), str(hcl.user_data), user_data.hex())
    _check_quote(sheet, evidence, rules, nonce)  # 3
    _claim(sheet, evidence)
    return sheet


def _required(
    evidence: VtpmEvidence, rules: VtpmPolicy, nonce: bytes | None, user_data: bytes | None
) -> set[CheckId]:
    required: set[CheckId] = set(Check)
    if user_data is None:
        required.remove(Check.USER_DATA)
    if evidence.quote is not None or not rules.allow_missing_quote:
        required |= {
            TpmCheck.QUOTE_SIGNATURE,
            TpmCheck.QUOTE_BANKS,
            TpmCheck.PCR_DIGEST,
            TpmCheck.PCR_VALUES,
        }
        if not rules.allow_missing_nonce:
            required.add(TpmCheck.QUOTE_NONCE)
    if nonce is not None:  # whoever gives one wants it answered, quote or not
        required.add(TpmCheck.QUOTE_NONCE)
    return required


def _check_configuration(sheet: Sheet, hcl: HclReport, rules: VtpmPolicy) -> None:
    secure, tpm = hcl.vm_configuration.get("secure-boot"), hcl.vm_configuration.get("tpm-enabled")
    expected = "any, as the policy spells out" if rules.allow_no_secure_boot else "True"
    sheet.record(Check.SECURE_BOOT, rules.allow_no_secure_boot or secure is True, str(secure), expected)
    sheet.record(Check.TPM, tpm is True, str(tpm), "True")


def _check_quote(sheet: Sheet, evidence: VtpmEvidence, rules: VtpmPolicy, nonce: bytes | None) -> None:
    key = evidence.hcl.attestation_key
    found = f"RSA of {key.key_size} bits" if key else "none, or more than one"
    sheet.record(Check.AK, key is not None, found, "one RSA key named HCLAkPub")
    quotes = [evidence.quote] if evidence.quote is not None else []
    if quotes and key is not None:
        check_signatures(sheet, quotes, key)
    check_nonce(sheet, quotes, nonce)
    if not quotes and rules.allow_missing_quote:
        return
    check_registers(sheet, quotes, evidence.pcrs, rules.pcrs, rules.banks)


def _claim(sheet: Sheet, evidence: VtpmEvidence) -> None:
    hcl = evidence.hcl
    sheet.claims.update(
        hcl_version=hcl.version,
        runtime_user_data=hcl.user_data,
        vm_configuration=dict(hcl.vm_configuration),
    )
    if evidence.quote is not None:
        quote = evidence.quote.quote
        sheet.claims.update(
            tpm_clock=quote.clock, tpm_reset_count=quote.reset_count, tpm_restart_count=quote.restart_count
        )
