"""Runs under the interpreter that has nv-local-gpu-verifier: one GPU report and its chain, timed.

    python nvidia_peer.py REPORT CHAIN NONCE DRIVER VBIOS REPEAT

Takes the steps that NVIDIA's verifier takes between having the evidence and its report's signature:
parse the report, load the chain and put the pinned root in its last place, compare the FWID, verify
chain, nonce, versions and signature. No OCSP, no manifests. Prints CPU microseconds a verification.
"""

import logging
import sys
import time
from pathlib import Path

from OpenSSL import crypto  # type: ignore[import-not-found]
from verifier.attestation import AttestationReport  # type: ignore[import-not-found]
from verifier.cc_admin_utils import CcAdminUtils  # type: ignore[import-not-found]
from verifier.config import BaseSettings, BlackwellSettings, HopperSettings  # type: ignore[import-not-found]

END = b"-----END CERTIFICATE-----"


def main() -> None:
    """Verify once to see that it is accepted, then `repeat` times against the clock."""
    report, chain = (Path(name).read_bytes() for name in sys.argv[1:3])
    nonce, driver, vbios, repeat = bytes.fromhex(sys.argv[3]), *sys.argv[4:6], int(sys.argv[6])
    logging.disable(logging.CRITICAL)
    root = Path(BaseSettings.DEVICE_ROOT_CERT).read_bytes()
    blocks = [block + END for block in chain.split(END)[:-2]] + [root]
    settings = BlackwellSettings() if vbios.startswith("97") else HopperSettings()

    def judge() -> bool:
        parsed = AttestationReport(report, settings)
        path = [crypto.load_certificate(crypto.FILETYPE_PEM, block) for block in blocks]
        fwid = parsed.get_response_message().get_opaque_data().get_data("OPAQUE_FIELD_ID_FWID").hex()
        genuine = CcAdminUtils.verify_gpu_certificate_chain(path, settings, fwid)[0]
        return bool(
            genuine
            and CcAdminUtils.verify_attestation_report(parsed, path[0], nonce, driver, vbios, settings)
        )

    if not judge():
        sys.exit("NVIDIA's verifier does not accept this evidence")
    start = time.process_time_ns()
    for _ in range(repeat):
        judge()
    print((time.process_time_ns() - start) / repeat / 1000)


if __name__ == "__main__":
    main()
