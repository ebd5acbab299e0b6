"""Runs pytest in a process that is stopped again and again for up to seconds, as on a machine that is busy elsewhere.

    python tests/stalls.py tests/test_app_jobs.py -v     # flags of pytest; repeat with --seed N for other moments

What fails here and passes otherwise races against processes of its own: it looks for something in its middle and comes
too late. Processes that are to be killed kill themselves (`shells.die_after`), work that is to be met takes seconds.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time

SECONDS_BETWEEN, SECONDS_STOPPED = (0.3, 2.0), (0.3, 2.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args, flags = parser.parse_known_args()
    rng = random.Random(args.seed)
    tests = subprocess.Popen([sys.executable, "-m", "pytest", "-n", "0", *flags])
    try:
        while tests.poll() is None:
            time.sleep(rng.uniform(*SECONDS_BETWEEN))
            tests.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(*SECONDS_STOPPED))
            tests.send_signal(signal.SIGCONT)
    except KeyboardInterrupt:
        tests.send_signal(signal.SIGCONT)
        tests.send_signal(signal.SIGINT)
    return tests.wait()


if __name__ == "__main__":
    sys.exit(main())
