"""Every check on an NVIDIA device, a list of them, and a reference manifest."""

from ..checks import CheckId


class NvidiaCheck(CheckId):
    """Checks on one GPU or NVSwitch."""

    CHAIN_FORM = (
        "nvidia.chain-form",
        "NVIDIA device identity: leaf, device, provisioner, model, root",
        "the chain has other than five certificates, or its leaf may not sign data",
        "fetch the whole chain from the device (nvmlDeviceGetConfComputeGpuCertificate)",
    )
    CHAIN_ROOT = (
        "nvidia.chain-root",
        "NVIDIA Device Identity CA",
        "the chain ends in another root than the pinned one",
        "this is not a device that NVIDIA certified; do not use it",
    )
    CHAIN_SIGNATURES = (
        "nvidia.chain-signatures",
        "RFC 5280, 6.1",
        "a certificate was not issued by the next one, or that one may not issue it",
        "this is not a device that NVIDIA certified; do not use it",
    )
    CHAIN_VALIDITY = (
        "nvidia.chain-validity",
        "RFC 5280, 4.1.2.5",
        "a certificate of the chain is not valid at this time",
        "check the clock; ask the operator for a current chain",
    )
    OCSP = (
        "nvidia.ocsp",
        "RFC 6960; NVIDIA device identity",
        "a certificate below the root is revoked or on hold, or no current status is at hand",
        "fetch OCSP responses; allow_hold and allow_missing_ocsp relax this",
    )
    CHIP = (
        "nvidia.chip",
        "DSP0274 (alternative name vendor:chip:serial)",
        "the leaf names a chip that the policy does not list",
        "add the chip to `chips` if you trust it",
    )
    DEVICE = (
        "nvidia.device",
        "policy",
        "the device's key is not in the policy's list of devices",
        "add its device_certificate to `devices` if this is your device",
    )
    REQUEST = (
        "nvidia.request",
        "DSP0274 1.1, 10.11",
        "the report does not answer a request for all measurements, signed",
        "ask for attribute 1 and operation 0xFF",
    )
    NONCE = (
        "nvidia.nonce",
        "DSP0274 1.1, 10.11 (Nonce)",
        "the report answers another nonce, or the verifier had none of its own",
        "attest again with your own nonce",
    )
    SIGNATURE = (
        "nvidia.report-signature",
        "DSP0274 1.1, 10.11.1",
        "the leaf's key did not sign this report",
        "the report was altered or belongs to another device; do not use it",
    )
    FWID = (
        "nvidia.fwid",
        "DICE Attestation Architecture 1.1, 6.1 (TcbInfo)",
        "the firmware identity in the report is not the leaf certificate's, or is absent",
        "update the driver; allow_missing_fwid accepts drivers that report none",
    )
    TCB_FLAGS = (
        "nvidia.tcb-flags",
        "DICE Attestation Architecture 1.1, 6.1.1 (flags)",
        "the leaf says that the firmware runs in debug, recovery or an insecure state",
        "use a production device; allow_debug accepts this",
    )
    DRIVER = (
        "nvidia.driver-version",
        "opaque field 3",
        "the driver version is neither listed nor at least the minimum",
        "update the driver, or add the version to the policy if you trust it",
    )
    VBIOS = (
        "nvidia.vbios-version",
        "opaque field 6",
        "the VBIOS (on a switch: BIOS) version is neither listed nor at least the minimum",
        "update the firmware, or add the version to the policy if you trust it",
    )
    MODE = (
        "nvidia.mode",
        "opaque fields 21 and 36",
        "the GPU is in a mode that the policy does not allow, or its fields contradict each other",
        "NVLink is plaintext in protected-PCIe mode; allow_protected_pcie accepts it",
    )
    MEASUREMENTS = (
        "nvidia.measurements",
        "DSP0274 1.1, 10.11.1 (MeasurementRecord)",
        "the SHA-384 of the measurement record is not listed",
        "compare with the record of a device that you trust, or use signed manifests",
    )
    RIM_FOUND = (
        "nvidia.rim-found",
        "NVIDIA RIM (colloquialVersion, product)",
        "no manifest for this chip and these versions of driver and VBIOS is at hand",
        "fetch the manifests that NVIDIA publishes for these versions",
    )
    RIM_SIGNATURE = (
        "nvidia.rim-signature",
        "XML Signature 1.1, 3.2",
        "a manifest was altered, or its signer did not sign it",
        "fetch the manifest again from NVIDIA",
    )
    RIM_SIGNER = (
        "nvidia.rim-signer",
        "NVIDIA CoRIM signing Root CA",
        "a manifest's signer does not chain to the pinned root",
        "fetch the manifest again from NVIDIA",
    )
    RIM_VALIDITY = (
        "nvidia.rim-validity",
        "RFC 5280, 4.1.2.5",
        "a certificate of a manifest's signer is not valid at this time",
        "fetch the manifest again: NVIDIA signs old ones anew",
    )
    RIM_OCSP = (
        "nvidia.rim-ocsp",
        "RFC 6960",
        "a manifest's signer is revoked or on hold, or no current status is at hand",
        "fetch OCSP responses; allow_hold and allow_missing_ocsp relax this",
    )
    RIM_CONFLICT = (
        "nvidia.rim-conflict",
        "NVIDIA RIM (index, active)",
        "driver and VBIOS manifests both speak for one measurement",
        "fetch both manifests again from NVIDIA",
    )
    RIM_MEASUREMENTS = (
        "nvidia.rim-measurements",
        "NVIDIA RIM (Resource)",
        "a measurement of the device is none of the values that a manifest allows",
        "the firmware or driver is not what NVIDIA published; do not use the device",
    )


class NvidiaListCheck(CheckId):
    """Checks on the GPUs and switches of one machine together."""

    COUNT = (
        "nvidia-list.count",
        "policy",
        "the number of GPUs is not what the policy asks for",
        "check whether evidence was stripped or repeated",
    )
    DISTINCT = (
        "nvidia-list.distinct",
        "policy",
        "two entries are one device, or an entry names none",
        "one device's evidence was repeated; do not use this machine",
    )
    SINGLE_MODE = (
        "nvidia-list.single-mode",
        "opaque fields 21 and 36",
        "the GPUs are not all in one mode",
        "restart the machine with all GPUs in the same mode",
    )
    TOPOLOGY = (
        "nvidia-list.topology",
        "opaque fields 22 and 26",
        "GPUs and switches in protected-PCIe mode do not name exactly each other",
        "have every switch attested too; allow_unattested_switches accepts GPUs alone",
    )
