"""All benchmarks, one after the other, each a process of its own: `python -m benchmarks`."""

import subprocess
import sys

NAMES = ("sealing", "verify", "overhead", "broker", "weights", "link", "engine")


def main() -> int:
    """Run each; the exit code is that of the first that broke."""
    for name in NAMES:
        print(f"\n== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
