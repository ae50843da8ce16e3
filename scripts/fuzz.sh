#!/usr/bin/env bash
# Damages the files that the project writes in 3,000 ways, and counts what their readers make of it: about an hour, two at most.
# Not part of the tests, which have a short slice of it. Arguments: --cases N --seed N --seconds N.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python -m tests.fuzz "$@"
