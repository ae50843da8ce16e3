#!/usr/bin/env bash
# Fig. 2, fastMRI knee: 6 rows x 5 seeds, then the table and the figure. Finished runs are skipped, interrupted ones resume.
# DATA=data/fastmri SEEDS="0 1 2 3 4" OUT=results JOBS=1 CONFIG=... by environment; settings as arguments. Without any data:
#   SEEDS=0 CONFIG=fastMRI/configs/fastmri_synthetic.yaml bash scripts/fastmri.sh
# ROWS="unimodal_magnitude, inter" makes these rows only. Further figures, on top of it: fastMRI/README.md
set -euo pipefail
source "$(dirname "$0")/setup.sh"
OUT=${OUT:-results}
python -m i2m2.sweep --train fastMRI.train --config "${CONFIG:-fastMRI/configs/fastmri.yaml}" \
  --rows "${ROWS:-unimodal_magnitude, unimodal_phase, inter, i2m2, intra, unimodal_rss}" \
  --seeds "${SEEDS:-0 1 2 3 4}" --out "$OUT" ${DATA:+--data.dir "$DATA"} "$@"
python -m i2m2.sweep --out "$OUT" "$@" --last i2m2.results "$OUT" --dataset fastmri
