"""What a module of this repository costs as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True)
class Cost:
    """Of one process: wall seconds, seconds of CPU, peak resident memory in GB."""

    seconds: float
    cpu: float
    peak: float


# A process's record begins at its parent's peak, so the parent is this little script; its last line
# is the record.
LAUNCHER = """
import json, os, sys, time
began = time.perf_counter()
command = [sys.executable, "-m", *sys.argv[1:]]
_, status, used = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
seconds = time.perf_counter() - began
print("\\n" + json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss]))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measure(command: list[str]) -> Cost:
    """Run a module of this repository, with its arguments, to its end in a process of its own."""
    launched = [sys.executable, "-c", LAUNCHER, *command]
    done = subprocess.run(
        launched, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
    seconds, cpu, peak = json.loads(done.stdout.splitlines()[-1])
    return Cost(seconds, cpu, peak * UNIT / 1e9)
