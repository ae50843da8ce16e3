"""Commands print their help, and report mistakes, before heavy libraries are loaded."""

import subprocess
import sys

HEAVY = {"torch", "accelerate", "sklearn", "scipy", "pandas", "h5py", "matplotlib"}
COMMANDS = ("train", "evaluate", "prepare", "make_synthetic", "controls", "pictures")


def test_commands_start_without_heavy_libraries():
    imports = "; ".join(f"import fastMRI.{command}" for command in COMMANDS)
    script = f"import sys; {imports}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())
