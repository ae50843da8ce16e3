"""A program as small as can be, for the launchers: python -m tests.i2m2.sweep.toy [--needs FILE]
[--touch FILE] [--among N] [--sleep SECONDS] [--fail CODE]."""

import argparse
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--needs", type=Path)
    parser.add_argument("--touch", type=Path)
    parser.add_argument("--among", type=int, default=0)
    parser.add_argument("--sleep", type=float, default=0)
    parser.add_argument("--fail", type=int, default=0)
    args, _ = parser.parse_known_args()
    assert args.needs is None or args.needs.exists()
    if args.touch:
        args.touch.write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
    while args.among and len(list(args.touch.parent.glob("*.toy"))) < args.among:
        time.sleep(0.01)
    time.sleep(args.sleep)
    if args.fail:
        print("error: as asked for", file=sys.stderr)
    sys.exit(args.fail)
