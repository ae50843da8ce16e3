#!/usr/bin/env bash
# Table 1, AV-MNIST: 7 rows x 5 seeds, products of those trained separately, then the tables. Finished runs are skipped, interrupted ones resume.
# DATA=data/avmnist SEEDS="0 1 2 3 4" OUT=results JOBS=1 CONFIG=... by environment; settings as arguments. Try it:
#   SEEDS=0 bash scripts/avmnist.sh --optim.epochs 1 --data.train_size 2000 --tag try
set -euo pipefail
source "$(dirname "$0")/setup.sh"
OUT=${OUT:-results}
python -m i2m2.sweep --train AVMNIST_and_MIMIC.train --config "${CONFIG:-AVMNIST_and_MIMIC/configs/avmnist.yaml}" \
  --rows "unimodal_audio, inter --fusion concat, inter --fusion low_rank_tensor, unimodal_image, \
          i2m2 --fusion low_rank_tensor, i2m2 --fusion concat, intra" \
  --seeds "${SEEDS:-0 1 2 3 4}" --out "$OUT" ${DATA:+--data.dir "$DATA"} "$@"
python -m i2m2.sweep --out "$OUT" "$@" --last AVMNIST_and_MIMIC.controls "$OUT" || code=$?  # the tables are made all the same
python -m i2m2.sweep --out "$OUT" "$@" --last i2m2.results "$OUT" --dataset avmnist
exit "${code:-0}"
