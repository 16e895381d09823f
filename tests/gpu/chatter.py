"""A process with one bus, over which its two ends talk until standard input ends."""

import select
import sys

from tests.gpu.pairs import two_links


def main() -> None:
    """Say when there is something to be seen, then go on."""
    with two_links() as (_, worker, device):
        print(flush=True)
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            worker.send(b"hello")
            device.receive()


if __name__ == "__main__":
    main()
