"""The attacks that the operator may try: what each is, who has to stop it, and how that is told."""

from dataclasses import dataclass
from enum import StrEnum


class Trial(StrEnum):
    """Names of attacks, as the page's buttons send them."""

    WIRE = "wire"
    BUS = "bus"
    DISK = "disk"
    REPLAY = "replay"
    SPLICE = "splice"
    SWAP = "swap"
    DOWNGRADE = "downgrade"
    TAMPER = "tamper"
    CONSENT = "consent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An attack in plain words; `stopper` occurs in the answer of whatever is meant to stop it."""

    title: str
    what: str
    stopper: str
    slow: bool = False


DESCRIBED = {
    Trial.WIRE: Described(
        title="Read the wire",
        what="Record every byte between hospitals and worker, and look for what they said.",
        stopper="0 were found",
    ),
    Trial.BUS: Described(
        title="Read the bus",
        what="Copy every record between CPU and GPU since the machine was switched on; look for weights.",
        stopper="0 were found",
    ),
    Trial.DISK: Described(
        title="Read the disk",
        what="Search his own disk and the worker's log for weights and documents.",
        stopper="0 were found",
    ),
    Trial.REPLAY: Described(
        title="Replay a request",
        what="Send a hospital's sealed request to the worker once more.",
        stopper="422",
    ),
    Trial.SPLICE: Described(
        title="Splice another GPU",
        what="Put evidence of a second genuine GPU of his into the worker's, for the right nonce.",
        stopper="snp.report-data",
    ),
    Trial.SWAP: Described(
        title="Swap the image",
        what="Boot the worker from an image with one line changed.",
        stopper="snp.measurement",
        slow=True,
    ),
    Trial.DOWNGRADE: Described(
        title="Downgrade the firmware",
        what="Roll the machine's firmware back to one with known holes, and boot the same worker.",
        stopper="snp.tcb",
        slow=True,
    ),
    Trial.TAMPER: Described(
        title="Tamper with a chunk",
        what="Flip one bit of the sealed weights on the disk, and boot from it.",
        stopper="is refused: altered",
        slow=True,
    ),
    Trial.CONSENT: Described(
        title="Change the consent",
        what="Allow longer answers and log-probabilities in the signed consent, and boot with it.",
        stopper="not every party has signed",
        slow=True,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a trial ended: what he did, what stopped him, what was said.

    `stopped` False: he succeeded. `clear` False: he did not, but for another reason than the check that is
    meant to stop him, so that nothing was shown.
    """

    did: str
    stopped: bool
    by: str
    said: str
    clear: bool = True
