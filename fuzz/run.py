"""Coverage-guided fuzzing of one parser, or of all in turn; needs atheris.

    python -m fuzz.run TARGET [--seconds N]
    python -m fuzz.run --all [--seconds N]

Prints the executions of each. A finding stops with the input in fuzz/found/. The seeds are genuine
evidence; without it libFuzzer starts from nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .targets import TARGETS

FOUND = Path(__file__).parent / "found"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--all", action="store_true", help="every target, each in a process of its own")
    parser.add_argument("--seconds", type=int, default=10, help="how long each runs")
    options = parser.parse_args()
    if options.all == (options.target is not None):
        parser.error("name one target, or --all")
    return every(options.seconds) if options.all else one(options.target, options.seconds)


def every(seconds: int) -> int:
    """Run each target; the exit code is 1 if one of them found something."""
    failed = 0
    for name in TARGETS:
        command = [sys.executable, "-m", "fuzz.run", name, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
        print(f"{name:18} {last[-1] if last else 'FAILED'}", flush=True)
        if done.returncode or not last:
            print(done.stderr[-3000:])
            failed = 1
    return failed


def one(name: str, seconds: int) -> int:
    """Fuzz `name` in this process; atheris ends it."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    target = TARGETS[name]
    with atheris.instrument_imports(include=["attestation"]):
        for seed in target.corpus()[:1] or [b""]:
            target.run(seed)  # loads what the parser loads late, so that it is instrumented
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for index, seed in enumerate(target.corpus()):
            Path(folder, str(index)).write_bytes(seed)
        flags = [
            f"-max_total_time={seconds}",
            f"-artifact_prefix={FOUND}/{name}-",
            "-timeout=10",
            "-max_len=65536",
        ]
        atheris.Setup([sys.argv[0], folder, *flags], target.run)
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
