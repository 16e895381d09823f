"""What dstack inference services send: a TDX quote over a signing key and a nonce, and device evidence.

    report_data = signing key, padded to 32 bytes || nonce, 32 bytes

The key is an Ethereum address (20 bytes) or an Ed25519 key (32 bytes). Devices answer the same
nonce, and nothing more: the quote does not commit to them.
"""

from ..context import Context
from ..dcap.quote import BodyType, Quote
from ..errors import MalformedEvidence
from ..expected import Expected
from ..sources import DstackDocument
from ..standalone import appraise_devices
from ..tdx.report import TdReport
from ..verdict import Sheet
from .checks import CompositeCheck as Check
from .tinfoil import check_nonce

NAME = "dstack"
ADDRESS_SIZE = 20
KEY_SIZE = 32


def appraise(evidence: DstackDocument, context: Context, expected: Expected) -> list[Sheet]:
    """The sheets of a document, its CPU and its devices. Raises MalformedEvidence.

    1. the format is listed, and the quote carries the verifier's nonce;  2. the key that the
    verifier talks to is the bound one;  3. devices are bound, or the policy does without;
    4. the quote is genuine;  5. so is each device, and answers the nonce.
    """
    from .. import tdx

    rules = context.policy.composite
    required = {Check.FORMAT, Check.NONCE}
    required |= {Check.CHANNEL_KEY} if expected.public_key is not None else set()
    sheet = Sheet("document", required)
    data = _report_data(evidence.quote)
    key, nonce = data[:KEY_SIZE], data[KEY_SIZE:]
    listed = rules is not None and NAME in rules.formats
    sheet.record(Check.FORMAT, listed, NAME, ", ".join(sorted(rules.formats)) if rules else "none")  # 1
    check_nonce(sheet, nonce, expected)
    _check_key(sheet, key, expected)  # 2
    if evidence.devices:
        allowed = rules is not None and rules.allow_unbound_devices
        wanted = "any, as the policy spells out" if allowed else "device evidence that report_data commits to"
        sheet.record(Check.DEVICES_BOUND, allowed, "bound by the nonce alone", wanted)  # 3
    bound = key + expected.nonce if expected.nonce is not None else None
    log = evidence.event_log
    sheets = [sheet, tdx.appraise(evidence.quote, context, subject="cpu0", report_data=bound, event_log=log)]
    if evidence.devices or context.policy.nvidia_gpu or context.policy.nvidia_switch:
        sheet.claims["gpus"] = len(evidence.devices)
        sheets += appraise_devices(evidence.devices, context, [nonce] * len(evidence.devices))  # 5
    return sheets


def _report_data(quote: bytes) -> bytes:
    parsed = Quote.from_bytes(quote)
    if parsed.body_type is BodyType.SGX:
        raise MalformedEvidence("an SGX quote where a TDX quote belongs")
    return TdReport.from_bytes(parsed.body_type, parsed.body).report_data


def _check_key(sheet: Sheet, key: bytes, expected: Expected) -> None:
    address = not any(key[ADDRESS_SIZE:])
    bound = key[:ADDRESS_SIZE] if address else key
    sheet.claims["signing_address"] = f"0x{bound.hex()}" if address else bound.hex()
    sheet.claims["signing_algo"] = "ecdsa" if address else "ed25519"
    if expected.public_key is not None:
        sheet.equal(Check.CHANNEL_KEY, bound, expected.public_key)
