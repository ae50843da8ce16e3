#!/usr/bin/env bash
# Table 2, MIMIC-III: 3 tasks x 6 rows x 5 seeds, then the tables. Finished runs are skipped, interrupted ones resume.
# TASKS="mortality icd9_1 icd9_7" DATA=data/mimic SEEDS="0 1 2 3 4" OUT=results JOBS=1 by environment; settings as arguments.
# RAW=DIR first prepares DATA from the raw tables in DIR. Without any data:
#   SEEDS=0 bash scripts/mimic.sh --data.source synthetic
set -euo pipefail
source "$(dirname "$0")/setup.sh"
OUT=${OUT:-results}
if [ -n "${RAW:-}" ]; then
  python -m AVMNIST_and_MIMIC.prepare_mimic --raw "$RAW" --out "${DATA:-data/mimic}"
fi
for task in ${TASKS:-mortality icd9_1 icd9_7}; do
  python -m i2m2.sweep --train AVMNIST_and_MIMIC.train --config "${CONFIG:-AVMNIST_and_MIMIC/configs/mimic.yaml}" \
    --rows "unimodal_static, unimodal_series, inter --fusion concat, inter --fusion low_rank_tensor, i2m2 --fusion concat, intra" \
    --seeds "${SEEDS:-0 1 2 3 4}" --seeds_together --out "$OUT" --task "$task" ${DATA:+--data.dir "$DATA"} "$@"
done
python -m i2m2.sweep --out "$OUT" "$@" --last i2m2.results "$OUT" --dataset mimic
