"""The [sgx] section."""

from .dcap import PLATFORM, PLATFORM_FIELDS, number
from .words import (
    Guide,
    Key,
    Writing,
    accepts,
    extra,
    fill,
    flag,
    floor,
    hexes,
    left_open,
    loosening,
    only,
)

SGX = Guide(
    title="Intel SGX enclaves",
    roots=("intel",),
    keys=(
        hexes(
            "mrenclaves",
            32,
            "MRENCLAVE: enclaves that are trusted.",
            "one of mrenclaves, mrsigners, allow_any_measurement is needed",
            value=fill("an array of MRENCLAVE values"),
            writing=Writing.ALWAYS,
        ),
        hexes(
            "mrsigners",
            32,
            "MRSIGNER: signers whose enclaves with isvprodid are trusted.",
            "none",
            weakens="The signer can release another enclave that passes.",
        ),
        Key(
            name="isvprodid",
            type="integer, 0 to 65535",
            default="required with mrsigners",
            meaning="The signer's product.",
            value="0",
        ),
        number("minimum_isvsvn", "Least security version of the enclave.", 65535),
        hexes("configids", 64, "CONFIGID besides zero.", "zero alone"),
        *PLATFORM,
        loosening("allow_any_measurement", "Take any enclave.", "Any software passes."),
        loosening("allow_debug", "Take an enclave in debug mode.", "The host reads and writes its memory."),
    ),
    fields={
        **PLATFORM_FIELDS,
        "mrenclaves": only("MRENCLAVE", empty="MRENCLAVE: none by value"),
        "mrsigners": extra(
            "signers (MRSIGNER), who can release further enclaves", "signers: none is taken at its word"
        ),
        "isvprodid": lambda value: (
            left_open("ISVPRODID: not asked, as no signer is named")
            if value is None
            else accepts(f"ISVPRODID: {value}")
        ),
        "minimum_isvsvn": floor("enclave security version"),
        "allow_any_measurement": flag("any enclave passes", "enclaves are judged by measurement"),
        "allow_debug": flag("debug: the host may read the enclave", "an enclave in debug mode is refused"),
        "configids": only("CONFIGID"),
    },
)
