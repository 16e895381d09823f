"""The checks on responses of NVIDIA's Remote Attestation Service."""

from ..checks import CheckId

_GUIDE = "NVIDIA attestation claims guide"


class NrasCheck(CheckId):
    """Checks on the overall token of a response."""

    KEY = (
        "nras.key",
        "RFC 7517, 4.7; policy (key_issuers)",
        "the token's key is not in the key set, its certificate does not hold, or its issuer is not listed",
        "fetch the service's current key set; keys are replaced every day",
    )
    SIGNATURE = (
        "nras.signature",
        "RFC 7515, 5.2; RFC 7518, 3.4",
        "the service's key did not sign the overall token with ES384",
        "the response was altered; request a new one",
    )
    ISSUER = (
        "nras.issuer",
        f"{_GUIDE} (iss)",
        "the token is not from the production service; the staging service signs anything",
        "use nras.attestation.nvidia.com",
    )
    VALIDITY = (
        "nras.validity",
        "RFC 7519, 4.1.4 and 4.1.5",
        "the token is expired, not yet valid, or does not say",
        "request a new response",
    )
    RESULT = (
        "nras.result",
        f"{_GUIDE} (x-nvidia-overall-att-result)",
        "the service's overall result is not true",
        "see the per-device checks for the reason",
    )
    NONCE = (
        "nras.nonce",
        f"{_GUIDE} (eat_nonce)",
        "the response answers another nonce, or the verifier had none",
        "request a response over your own nonce",
    )
    SUBMODULES = (
        "nras.submodules",
        f"{_GUIDE} (submods); RFC 9711, 4.2.18.2",
        "the device tokens are not, one by one, those whose SHA-256 the overall token signs",
        "a device's token was removed, added or exchanged",
    )
    DEVICES = (
        "nras.devices",
        "policy (count)",
        "the response is about another number of devices than the policy asks for",
        "request a response for every device of the worker",
    )
    DISTINCT = (
        "nras.distinct",
        f"{_GUIDE} (ueid)",
        "two of the device tokens are about the same device, or one names none",
        "one device's evidence was repeated; do not use this worker",
    )


class NrasDeviceCheck(CheckId):
    """Checks on one device's token."""

    SIGNATURE = (
        "nras-device.signature",
        "RFC 7515, 5.2",
        "the key of the overall token did not sign this token",
        "the response was altered; request a new one",
    )
    TOKEN = (
        "nras-device.token",
        "RFC 7519, 4.1",
        "the token is not the production service's, or not current",
        "request a new response",
    )
    NONCE = (
        "nras-device.nonce",
        f"{_GUIDE} (eat_nonce, nonce-match)",
        "the device's evidence answers another nonce than the response",
        "gather the evidence of every device with one nonce",
    )
    REPORT = (
        "nras-device.report",
        f"{_GUIDE} (attestation-report-*, arch-check)",
        "the service could not parse or verify the device's report or chain, or found an error",
        "see what was found; gather the evidence again",
    )
    RIMS = (
        "nras-device.rims",
        f"{_GUIDE} (*-rim-*)",
        "a reference manifest was missing, badly signed, revoked, or for another version",
        "update driver or VBIOS to a version that NVIDIA publishes manifests for",
    )
    MEASUREMENTS = (
        "nras-device.measurements",
        f"{_GUIDE} (measres)",
        "the measurements do not match the manifests",
        "the device runs firmware that NVIDIA does not vouch for",
    )
    SECURE_BOOT = (
        "nras-device.secure-boot",
        f"{_GUIDE} (secboot)",
        "the device did not boot securely, or the token does not say",
        "do not use this device",
    )
    DEBUG = (
        "nras-device.debug",
        f"{_GUIDE} (dbgstat)",
        "debugging is not disabled, or the token does not say",
        "turn the device's developer mode off",
    )
    WARNING = (
        "nras-device.warning",
        f"{_GUIDE} (x-nvidia-attestation-warning)",
        "the service attached a warning",
        "read it; write allow_warnings = true if it is acceptable",
    )
    MODEL = (
        "nras-device.model",
        f"{_GUIDE} (hwmodel); policy (models)",
        "the device is of a model that the policy does not list",
        "add the model to the policy if you trust it",
    )
    DEVICE = (
        "nras-device.device",
        f"{_GUIDE} (ueid); policy (ueids)",
        "the token is about a device that the policy does not list",
        "ask about the devices you mean; add the ueid if you trust the device",
    )
    DRIVER = (
        "nras-device.driver",
        f"{_GUIDE} (gpu-driver-version); policy (drivers)",
        "the driver's version is not one that the policy lists",
        "update the driver, or list the version",
    )
    VBIOS = (
        "nras-device.vbios",
        f"{_GUIDE} (gpu-vbios-version, switch-bios-version); policy (vbios)",
        "the VBIOS's version is not one that the policy lists",
        "update the VBIOS, or list the version",
    )
