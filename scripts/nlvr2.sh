#!/usr/bin/env bash
# Table 3, NLVR2: 5 rows x 5 seeds, then the table and the figure. Finished runs are skipped, interrupted ones resume.
# DATA=data/nlvr2 SEEDS="0 1 2 3 4" OUT=results JOBS=1 CONFIG=... by environment; settings as arguments. Without any data:
#   SEEDS=0 CONFIG=VQA_and_NLVR2/configs/nlvr2_synthetic.yaml bash scripts/nlvr2.sh
# ROWS="unimodal_text, inter" makes these rows only. Several GPUs for one run: torchrun, see VQA_and_NLVR2/configs/nlvr2.yaml
set -euo pipefail
source "$(dirname "$0")/setup.sh"
OUT=${OUT:-results}
python -m i2m2.sweep --train VQA_and_NLVR2.train --config "${CONFIG:-VQA_and_NLVR2/configs/nlvr2.yaml}" \
  --rows "${ROWS:-unimodal_image, unimodal_text, inter, i2m2, intra}" \
  --seeds "${SEEDS:-0 1 2 3 4}" --out "$OUT" ${DATA:+--data.dir "$DATA"} "$@"
python -m i2m2.sweep --out "$OUT" "$@" --last i2m2.results "$OUT" --dataset nlvr2
