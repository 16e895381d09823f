"""How each kind of evidence that is not a bundle is judged: which sections it needs, what it binds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .context import Context
from .expected import Expected
from .sources import (
    AciEvidence,
    AzureVtpm,
    DstackDocument,
    GpuEvidence,
    MaaEvidence,
    NitroEvidence,
    NrasEvidence,
    RimEvidence,
    SgxEvidence,
    SnpEvidence,
    TdxEvidence,
    TinfoilDocument,
    TpmQuotes,
)
from .verdict import Sheet

if TYPE_CHECKING:
    from .evidence import DeviceEvidence

Sheets = Sequence[Sheet]
GPU, SWITCH = "nvidia-gpu", "nvidia-nvswitch"
AZURE_SNP, AZURE_TDX = "azure-snp-vtpm", "azure-tdx-vtpm"
CPU_SECTIONS = {
    "sev-snp": ("snp",),
    "tdx": ("tdx",),
    AZURE_SNP: ("azure_vtpm", "snp"),
    AZURE_TDX: ("azure_vtpm", "tdx"),
}
"""What a bundle may name as its CPU's TEE, and the policy's sections that each needs."""

MORE_THAN_HARDWARE = {"snp": ("azure_vtpm", "azure_aci"), "tdx": ("azure_vtpm",)}
"""Sections that judge what runs above a CPU's section: under them a report by itself lacks the rest."""

DEVICE_SECTIONS = {GPU: "nvidia_gpu", SWITCH: "nvidia_switch"}


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of evidence: its name, the policy's sections that it needs, the values it can carry.

    `sections` are all needed; "a|b" is either. What evidence carries and nobody asked for is not
    checked; what somebody asked for and it cannot carry fails.
    """

    name: str
    sections: Callable[[Any], tuple[str, ...]]
    carries: frozenset[str]
    appraise: Callable[[Any, Context, Expected], Sheets]


def appraise_devices(
    devices: "Sequence[DeviceEvidence]", context: Context, nonces: Sequence[bytes | None]
) -> list[Sheet]:
    """The sheets of GPUs and NVSwitches: all together under "devices", then each by itself.

    `nonces` are what the devices answer, one each. A device of a kind that the policy has no
    section for gets no sheet; what it is part of must refuse it.
    """
    from . import nvidia

    rules, switch_rules = context.policy.nvidia_gpu, context.policy.nvidia_switch
    sheets = [nvidia.appraise_list(devices, context, subject="devices", switch_rules=switch_rules)]
    gpus = switches = 0
    for device, nonce in zip(devices, nonces, strict=True):
        report, chain = device.report, device.chain
        if device.tee == GPU and rules is not None:
            sheet = nvidia.appraise(report, chain, context, subject=f"gpu{gpus}", nonce=nonce)
            gpus += 1
        elif device.tee == SWITCH and switch_rules is not None:
            subject = f"switch{switches}"
            sheet = nvidia.appraise_switch(
                report, chain, context, subject=subject, nonce=nonce, rules=switch_rules
            )
            switches += 1
        else:
            continue
        sheets.append(sheet)
    return sheets


def _devices(evidence: GpuEvidence, context: Context, expected: Expected) -> Sheets:
    return appraise_devices(evidence.devices, context, [expected.nonce] * len(evidence.devices))


def _device_sections(evidence: GpuEvidence) -> tuple[str, ...]:
    return tuple(sorted({DEVICE_SECTIONS.get(each.tee, each.tee) for each in evidence.devices}))


def _rim(evidence: RimEvidence, context: Context, expected: Expected) -> Sheets:
    from . import nvidia

    return [nvidia.appraise_rim(evidence.manifest, context, subject="rim")]


def _snp(evidence: SnpEvidence, context: Context, expected: Expected) -> Sheets:
    from . import snp

    data = expected.report_data
    return [snp.appraise(evidence.report, evidence.endorsements, context, subject="cpu0", report_data=data)]


def _tdx(evidence: TdxEvidence, context: Context, expected: Expected) -> Sheets:
    from . import tdx

    data, log = expected.report_data, evidence.event_log
    return [tdx.appraise(evidence.quote, context, subject="cpu0", report_data=data, event_log=log)]


def _sgx(evidence: SgxEvidence, context: Context, expected: Expected) -> Sheets:
    from . import sgx

    return [sgx.appraise(evidence.quote, context, subject="cpu0", report_data=expected.report_data)]


def appraise_vtpm(evidence: AzureVtpm, tee: str, context: Context, expected: Expected) -> Sheets:
    """The sheets of an Azure machine on `tee`: hardware under "cpu0", its vTPM under "cpu0.vtpm"."""
    from . import azure

    rules = context.policy.azure_vtpm
    if rules is None:
        raise ValueError("the policy has no [azure_vtpm] section")
    parts = azure.VtpmEvidence.from_parts(evidence.hcl, quote=evidence.quote, pcrs=evidence.pcrs)
    nonce, user_data = expected.nonce, expected.user_data
    if tee == AZURE_SNP:
        chain = evidence.endorsements
        return azure.appraise_snp(
            parts, chain, context, rules, subject="cpu0", nonce=nonce, user_data=user_data
        )
    quote = evidence.td_quote
    return azure.appraise_tdx(parts, quote, context, rules, subject="cpu0", nonce=nonce, user_data=user_data)


def _azure_tee(evidence: AzureVtpm) -> str:
    """Which hardware the HCL report says it is of; the appraisal fails if it is not."""
    from .azure import HclReport, ReportType

    snp = HclReport.from_bytes(evidence.hcl).report_type is ReportType.SNP
    return AZURE_SNP if snp else AZURE_TDX


def _vtpm(evidence: AzureVtpm, context: Context, expected: Expected) -> Sheets:
    return appraise_vtpm(evidence, _azure_tee(evidence), context, expected)


def _vtpm_sections(evidence: AzureVtpm) -> tuple[str, ...]:
    return CPU_SECTIONS[_azure_tee(evidence)]


def _aci(evidence: AciEvidence, context: Context, expected: Expected) -> Sheets:
    from . import azure

    rules = context.policy.azure_aci
    if rules is None:
        raise ValueError("the policy has no [azure_aci] section")
    return azure.appraise_aci(
        evidence.report,
        evidence.endorsements,
        azure.UvmEndorsement.from_bytes(evidence.uvm),
        context,
        rules,
        subject="cpu0",
        report_data=expected.report_data,
        security_policy=evidence.security_policy,
    )


def _maa(evidence: MaaEvidence, context: Context, expected: Expected) -> Sheets:
    from . import maa

    rules = context.policy.maa
    if rules is None:
        raise ValueError("the policy has no [maa] section")
    token, nonce = maa.Token.from_compact(evidence.token), expected.nonce
    return [maa.appraise(token, context, rules, subject="token", nonce=nonce, runtime=expected.runtime)]


def _nras(evidence: NrasEvidence, context: Context, expected: Expected) -> Sheets:
    from . import nras

    rules = context.policy.nras
    if rules is None:
        raise ValueError("the policy has no [nras] section")
    response = nras.NrasResponse.from_bytes(evidence.response)
    return nras.appraise(response, context, rules, subject="token", nonce=expected.nonce)


def _tpm(evidence: TpmQuotes, context: Context, expected: Expected) -> Sheets:
    from . import tpm

    rules = context.policy.tpm
    if rules is None:
        raise ValueError("the policy has no [tpm] section")
    parts = tpm.TpmEvidence.from_parts(
        quotes=evidence.quotes,
        public=evidence.public,
        certificates=evidence.certificates,
        pcrs=evidence.pcrs,
        event_log=evidence.event_log,
    )
    return [tpm.appraise(parts, context, rules, subject="tpm0", nonce=expected.nonce)]


def _nitro(evidence: NitroEvidence, context: Context, expected: Expected) -> Sheets:
    from . import nitro

    rules = context.policy.nitro
    if rules is None:
        raise ValueError("the policy has no [nitro] section")
    document = nitro.NitroDocument.from_bytes(evidence.document)
    sheet = nitro.appraise(
        document,
        context,
        rules,
        subject="cpu0",
        nonce=expected.nonce,
        user_data=expected.user_data,
        public_key=expected.public_key,
    )
    return [sheet]


def _tinfoil(evidence: TinfoilDocument, context: Context, expected: Expected) -> Sheets:
    from .importers.tinfoil import appraise

    return appraise(evidence, context, expected)


def _tinfoil_sections(evidence: TinfoilDocument) -> tuple[str, ...]:
    from .importers.tinfoil import sections

    return sections(evidence)


def _dstack(evidence: DstackDocument, context: Context, expected: Expected) -> Sheets:
    from .importers.dstack import appraise

    return appraise(evidence, context, expected)


def _dstack_sections(evidence: DstackDocument) -> tuple[str, ...]:
    return ("composite", "tdx", *_device_sections(GpuEvidence(devices=evidence.devices)))


def _always(*names: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda _: names


def _form(
    name: str,
    sections: Callable[[Any], tuple[str, ...]],
    carries: set[str],
    appraise: Callable[[Any, Context, Expected], Sheets],
) -> Form:
    return Form(name, sections, frozenset(carries), appraise)


FORMS: dict[type[Any], Form] = {
    SnpEvidence: _form("SEV-SNP report", _always("snp"), {"report_data"}, _snp),
    TdxEvidence: _form("TDX quote", _always("tdx"), {"report_data"}, _tdx),
    SgxEvidence: _form("SGX quote", _always("sgx"), {"report_data"}, _sgx),
    GpuEvidence: _form("NVIDIA devices", _device_sections, {"nonce"}, _devices),
    RimEvidence: _form("NVIDIA manifest", _always("nvidia_gpu|nvidia_switch"), set(), _rim),
    TpmQuotes: _form("TPM", _always("tpm"), {"nonce"}, _tpm),
    NitroEvidence: _form("Nitro document", _always("nitro"), {"nonce", "user_data", "public_key"}, _nitro),
    MaaEvidence: _form("Azure Attestation token", _always("maa"), {"nonce", "runtime"}, _maa),
    NrasEvidence: _form("NRAS response", _always("nras"), {"nonce"}, _nras),
    AciEvidence: _form("Azure container instance", _always("azure_aci", "snp"), {"report_data"}, _aci),
    AzureVtpm: _form("Azure confidential VM", _vtpm_sections, {"nonce", "user_data"}, _vtpm),
    TinfoilDocument: _form("Tinfoil document", _tinfoil_sections, {"nonce", "public_key"}, _tinfoil),
    DstackDocument: _form("dstack document", _dstack_sections, {"nonce", "public_key"}, _dstack),
}
