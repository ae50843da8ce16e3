#!/usr/bin/env bash
# The tests, on a fresh machine too: makes .venv, installs, runs, two at a time. Arguments go to pytest: bash scripts/test.sh -k fusion
set -euo pipefail
source "$(dirname "$0")/setup.sh"
ruff check .
python -m pytest -n 2 --dist worksteal "$@"
