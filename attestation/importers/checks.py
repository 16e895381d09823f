"""What is checked of another provider's document as a whole."""

from ..checks import CheckId


class CompositeCheck(CheckId):
    """Checks on the links between keys, nonce and devices; the CPU report's own sheet checks the last."""

    FORMAT = (
        "composite.format",
        "docs/verifying.md, Documents of other providers",
        "the policy does not list this document's format",
        "add it to [composite] formats if you accept such documents",
    )
    NONCE = (
        "composite.nonce",
        "the document's own definition of report_data",
        "the document answers another nonce, or the verifier had none of its own",
        "fetch fresh evidence with your own nonce",
    )
    CERTIFICATE = (
        "composite.certificate",
        "the document's own definition of report_data",
        "the certificate in the document is for another key than the one that is bound",
        "do not trust this certificate; compare with the one that the server presents",
    )
    CHANNEL_KEY = (
        "composite.channel-key",
        "docs/verifying.md, Documents of other providers",
        "the key that you would talk to is not one that the document binds",
        "connect to the attested key, or fetch the evidence of the machine you are connected to",
    )
    DEVICES_BOUND = (
        "composite.devices-bound",
        "docs/verifying.md, Documents of other providers",
        "the CPU report does not commit to the device evidence, which may be another machine's",
        "use a provider that binds it, or accept the risk with allow_unbound_devices = true in [composite]",
    )
