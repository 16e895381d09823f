"""Evidence out of files, told by their content: what belongs together, and the collateral among it.

File names only order what is otherwise alike. Recognised is not verified.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import certificates
from .collateral import Collateral
from .encoding import strict_json
from .errors import MalformedEvidence
from .evidence import Bundle, DeviceEvidence
from .importers import tinfoil, trustee
from .importers.members import devices as devices_in
from .importers.members import hex_bytes
from .pieces import BANKS, MAX_FILE, Piece, identify
from .sources import (
    AciEvidence,
    AzureVtpm,
    DstackDocument,
    Evidence,
    GpuEvidence,
    MaaEvidence,
    NitroEvidence,
    NrasEvidence,
    Pcrs,
    RimEvidence,
    SgxEvidence,
    SnpEvidence,
    TdxEvidence,
    TinfoilDocument,
    TpmQuotes,
)
from .standalone import GPU, SWITCH
from .vendor_collateral import COLLATERAL, Pieces, collateral_of, sort_pieces

P = Piece
MAX_FILES = 64
QUOTES = ("quote", "intel_quote", "tdx_quote")
_ASIDE = {P.TEXT, P.OTHER, P.PUBLIC_KEY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What a set of files holds. `collateral` came from whoever sent the evidence: use `stapled`.

    `pieces` names each file's kind; `unused` are the files that are part of neither.
    """

    evidence: Evidence
    collateral: Collateral
    pieces: Mapping[str, Piece]
    unused: tuple[str, ...] = ()


def recognise(files: Mapping[str, bytes]) -> Recognised:
    """The one piece of evidence in `files`; MalformedEvidence says what was found or tried instead."""
    if not 0 < len(files) <= MAX_FILES:
        raise MalformedEvidence(f"{len(files)} files, not 1 to {MAX_FILES}")
    kinds, pieces = sort_pieces(files)
    found = set(pieces) - COLLATERAL - _ASIDE
    recipe = _fitting(found) or _fitting(found - {P.CERTIFICATES})
    if found <= {P.CERTIFICATES} and P.RIM in pieces:
        recipe = _RIM
    if recipe is None:
        listed = ", ".join(f"{name}: {kind}" for name, kind in sorted(kinds.items()))
        raise MalformedEvidence(f"not one piece of evidence: {listed}")
    used = recipe.needs | recipe.may | COLLATERAL
    return Recognised(
        evidence=recipe.make(pieces),
        collateral=collateral_of(pieces) if recipe is not _RIM else Collateral(),
        pieces=kinds,
        unused=tuple(sorted(name for name, kind in kinds.items() if kind not in used)),
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which pieces make one kind of evidence."""

    needs: frozenset[Piece]
    may: frozenset[Piece]
    make: Callable[[Pieces], Evidence]


def _fitting(found: set[Piece]) -> Recipe | None:
    return next((item for item in RECIPES if item.needs <= found <= item.needs | item.may), None)


def _one(pieces: Pieces, kind: Piece) -> bytes:
    found = pieces.get(kind, [])
    if len(found) != 1:
        raise MalformedEvidence(f"{len(found)} of {kind}, where one belongs")
    return found[0]


def _optional(pieces: Pieces, kind: Piece) -> bytes | None:
    return _one(pieces, kind) if kind in pieces else None


def _endorsements(pieces: Pieces) -> tuple[bytes, ...]:
    return (*pieces.get(P.CERTIFICATES, ()), *pieces.get(P.CERTIFICATE_TABLE, ()))


def _snp(pieces: Pieces) -> Evidence:
    return SnpEvidence(report=_one(pieces, P.SNP_REPORT), endorsements=_endorsements(pieces))


def _aci(pieces: Pieces) -> Evidence:
    return AciEvidence(
        report=_one(pieces, P.SNP_REPORT),
        uvm=_one(pieces, P.UVM),
        endorsements=_endorsements(pieces),
        security_policy=_policy_text(_optional(pieces, P.TEXT)),
    )


def _policy_text(text: bytes | None) -> bytes | None:
    """A security policy as it was hashed: it travels in base64."""
    if text is None:
        return None
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        return text


def _tdx(pieces: Pieces) -> Evidence:
    return TdxEvidence(quote=_one(pieces, P.TDX_QUOTE), event_log=_optional(pieces, P.EVENT_LOG))


def _dstack(pieces: Pieces) -> Evidence:
    quote, log = _one(pieces, P.TDX_QUOTE), _optional(pieces, P.EVENT_LOG)
    return DstackDocument(quote=quote, event_log=log, devices=_lists(pieces))


def _quote_document(pieces: Pieces) -> Evidence:
    """JSON around a quote: dstack's with event log and a payload for NVIDIA's service, Trustee's agents'."""
    value = strict_json(_one(pieces, P.QUOTE_DOCUMENT), limit=MAX_FILE)
    quote = trustee.octets(next(value[name] for name in QUOTES if name in value), "the quote")
    log, payload = value.get("event_log"), value.get("nvidia_payload")
    raw_log = log.encode() if isinstance(log, str) else json.dumps(log).encode() if log else None
    if value.get("cc_eventlog"):
        raw_log = trustee.octets(value["cc_eventlog"], "the event log")
    if payload:
        listed = strict_json(payload.encode(), limit=MAX_FILE) if isinstance(payload, str) else payload
        return DstackDocument(quote=quote, event_log=raw_log, devices=_typed(listed))
    return TdxEvidence(quote=quote, event_log=raw_log)


def _tsm(pieces: Pieces) -> Evidence:
    """What configfs-tsm gives, as JSON: `outblob` a report or quote, `auxblob` a certificate table."""
    value = strict_json(_one(pieces, P.TSM_REPORT), limit=MAX_FILE)
    table = (trustee.octets(value["auxblob"], "auxblob"),) if value.get("auxblob") else ()
    return _hardware(trustee.octets(value["outblob"], "outblob"), (*table, *_endorsements(pieces)))


def _tinfoil_report(pieces: Pieces) -> Evidence:
    return _hardware(tinfoil.report(_one(pieces, P.TINFOIL_REPORT)), _endorsements(pieces))


def _hardware(raw: bytes, endorsements: tuple[bytes, ...]) -> Evidence:
    """A report or quote that stood in a document, told by its content."""
    kind, report = identify(raw)
    if kind is P.TDX_QUOTE:
        return TdxEvidence(quote=report)
    if kind is not P.SNP_REPORT:
        raise MalformedEvidence(f"the document holds {kind}, neither a report nor a quote")
    return SnpEvidence(report=report, endorsements=endorsements)


def _sgx(pieces: Pieces) -> Evidence:
    return SgxEvidence(quote=_one(pieces, P.SGX_QUOTE))


def _azure(pieces: Pieces) -> Evidence:
    quote, signature = _optional(pieces, P.TPM_QUOTE), _optional(pieces, P.TPM_SIGNATURE)
    if (quote is None) != (signature is None):
        raise MalformedEvidence("a TPM quote without its signature, or the reverse")
    return AzureVtpm(
        hcl=_one(pieces, P.HCL_REPORT),
        quote=(quote, signature) if quote is not None and signature is not None else None,
        pcrs=_pcrs(pieces),
        endorsements=_endorsements(pieces),
        td_quote=_optional(pieces, P.TDX_QUOTE),
    )


def _tpm(pieces: Pieces) -> Evidence:
    messages, signatures = pieces.get(P.TPM_QUOTE, []), pieces.get(P.TPM_SIGNATURE, [])
    if len(messages) != len(signatures):
        raise MalformedEvidence(f"{len(messages)} TPM quotes and {len(signatures)} signatures")
    return TpmQuotes(
        quotes=tuple(zip(messages, signatures, strict=True)),
        public=_optional(pieces, P.TPM_PUBLIC) or _optional(pieces, P.PUBLIC_KEY),
        certificates=tuple(pieces.get(P.CERTIFICATES, ())),
        pcrs=_pcrs(pieces),
        event_log=_optional(pieces, P.EVENT_LOG),
    )


def _pcrs(pieces: Pieces) -> Pcrs:
    """Registers by bank: a list from index 0 on, whose bank its digests' size tells, or a table of banks."""
    raw = _optional(pieces, P.PCRS)
    value = strict_json(raw, limit=MAX_FILE) if raw is not None else {}
    if isinstance(value, dict) and value.keys() == {"pcrs"}:
        value = value["pcrs"]
    if isinstance(value, list):
        value = dict(enumerate(value))
    if value and not value.keys() & {*BANKS.values()}:
        value = {_bank_of(value): value}
    return {bank: _bank(registers) for bank, registers in value.items()}


def _bank_of(registers: Mapping[Any, Any]) -> str:
    """The bank, by the size of the first register's value."""
    size = len(hex_bytes(next(iter(registers.values())), "a register"))
    if size not in BANKS:
        raise MalformedEvidence(f"registers of {size} bytes are of no bank")
    return BANKS[size]


def _bank(registers: Any) -> dict[int, bytes]:
    if isinstance(registers, list):
        registers = dict(enumerate(registers))
    try:
        return {int(index): hex_bytes(value, "a register") for index, value in registers.items()}
    except (AttributeError, ValueError):
        raise MalformedEvidence("register values are not a table by index") from None


def _devices(pieces: Pieces) -> Evidence:
    return GpuEvidence(devices=_lists(pieces))


def _device(pieces: Pieces) -> Evidence:
    reports, chains = pieces[P.DEVICE_REPORT], pieces[P.CERTIFICATES]
    if len(reports) == 1 and len(chains) > 1:
        chains = [certificates.chained(chains)]
    if len(reports) != len(chains):
        raise MalformedEvidence(f"{len(reports)} device reports and {len(chains)} certificate chains")
    pairs = zip(reports, _own(reports, chains), strict=True)
    return GpuEvidence(devices=tuple(_device_of(report, chain) for report, chain in pairs))


def _own(reports: list[bytes], chains: list[bytes]) -> Iterator[bytes]:
    """For each report the chain whose key signed it, or one that is left over."""
    from .nvidia.devices import signed_under

    spare = list(chains)
    for report in reports:
        fits = (chain for chain in spare if len(spare) > 1 and signed_under(report, chain))
        own = next(fits, spare[0])
        spare.remove(own)
        yield own


def _lists(pieces: Pieces) -> tuple[DeviceEvidence, ...]:
    """The devices of every list given: services ask about GPUs and switches apart."""
    return tuple(
        device for raw in pieces[P.DEVICE_LIST] for device in _typed(strict_json(raw, limit=MAX_FILE))
    )


def _typed(listed: Any) -> tuple[DeviceEvidence, ...]:
    return tuple(_device_of(item.report, item.chain) for item in devices_in(listed, GPU))


def _device_of(report: bytes, chain: bytes) -> DeviceEvidence:
    """A device as its own certificate names it: chips called LS are NVSwitches. The name is judged later."""
    from .nvidia import CertificateChain

    try:
        name = CertificateChain.from_pem(chain).device_name
    except MalformedEvidence:
        name = None
    switch = name is not None and name[0].startswith("LS")
    return DeviceEvidence(tee=SWITCH if switch else GPU, report=report, chain=chain)


def _recipe(make: Callable[[Pieces], Evidence], *needs: Piece, may: Iterable[Piece] = ()) -> Recipe:
    return Recipe(frozenset(needs), frozenset(may), make)


_CHAIN = (P.CERTIFICATES, P.CERTIFICATE_TABLE)
RECIPES = (
    _recipe(lambda p: Bundle.from_json(_one(p, P.BUNDLE)), P.BUNDLE),
    _recipe(
        lambda p: AzureVtpm.from_json(_one(p, P.VTPM_DOCUMENT), _endorsements(p)), P.VTPM_DOCUMENT, may=_CHAIN
    ),
    _recipe(
        lambda p: TinfoilDocument(document=_one(p, P.TINFOIL), endorsements=_endorsements(p)),
        P.TINFOIL,
        may=_CHAIN,
    ),
    _recipe(
        lambda p: trustee.azure(_one(p, P.AZURE_DOCUMENT), _endorsements(p)), P.AZURE_DOCUMENT, may=_CHAIN
    ),
    _recipe(
        lambda p: trustee.tpm(_one(p, P.TPM_DOCUMENT), tuple(p.get(P.CERTIFICATES, ()))),
        P.TPM_DOCUMENT,
        may=(P.CERTIFICATES,),
    ),
    _recipe(_quote_document, P.QUOTE_DOCUMENT),
    _recipe(lambda p: NrasEvidence(response=_one(p, P.NRAS)), P.NRAS),
    _recipe(lambda p: MaaEvidence(token=_one(p, P.MAA_TOKEN).decode().strip()), P.MAA_TOKEN),
    _recipe(lambda p: NitroEvidence(document=_one(p, P.NITRO)), P.NITRO),
    _recipe(_azure, P.HCL_REPORT, may=(P.TPM_QUOTE, P.TPM_SIGNATURE, P.PCRS, P.TDX_QUOTE, *_CHAIN)),
    _recipe(_aci, P.SNP_REPORT, P.UVM, may=(P.TEXT, *_CHAIN)),
    _recipe(_snp, P.SNP_REPORT, may=_CHAIN),
    _recipe(_tsm, P.TSM_REPORT, may=_CHAIN),
    _recipe(_tinfoil_report, P.TINFOIL_REPORT, may=_CHAIN),
    _recipe(_dstack, P.TDX_QUOTE, P.DEVICE_LIST, may=(P.EVENT_LOG,)),
    _recipe(_tdx, P.TDX_QUOTE, may=(P.EVENT_LOG,)),
    _recipe(_sgx, P.SGX_QUOTE),
    _recipe(_devices, P.DEVICE_LIST),
    _recipe(_device, P.DEVICE_REPORT, P.CERTIFICATES),
    _recipe(_tpm, P.TPM_QUOTE, may=(P.TPM_SIGNATURE, P.TPM_PUBLIC, P.PCRS, P.EVENT_LOG, P.CERTIFICATES)),
    _recipe(_tpm, P.CERTIFICATES),
)
_RIM = _recipe(lambda p: RimEvidence(manifest=_one(p, P.RIM)), P.RIM)
