#!/usr/bin/env bash
# Table 3 and Fig. C.6, VQA-VS: the features of the frozen backbone once, 5 rows x 5 seeds on them, then the tables. What is there is
# left alone, what was interrupted resumes. DATA=data/vqa_vs IMAGES=DIR FEATURES=DIR SEEDS="0 1 2 3 4" OUT=results JOBS=1 CONFIG=... by
# environment; settings, those of the backbone among them, as arguments, which extraction and training both get. Without any data:
#   SEEDS=0 CONFIG=VQA_and_NLVR2/configs/vqa_vs_synthetic.yaml bash scripts/vqa_vs.sh
# GPUS=4 extracts with as many GPUs; in SLURM by as many jobs, each of which makes its share.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
OUT=${OUT:-results}
CONFIG=${CONFIG:-VQA_and_NLVR2/configs/vqa_vs.yaml}
COMMON=(--config "$CONFIG" ${DATA:+--data.dir "$DATA"} ${IMAGES:+--data.images "$IMAGES"} ${FEATURES:+--features.dir "$FEATURES"})
python -m i2m2.sweep --first VQA_and_NLVR2.extract_features --parts "${GPUS:-1}" "${COMMON[@]}" --out "$OUT" "$@"
python -m i2m2.sweep --train VQA_and_NLVR2.train "${COMMON[@]}" \
  --rows "${ROWS:-unimodal_image, unimodal_text, inter, i2m2, intra}" --seeds "${SEEDS:-0 1 2 3 4}" --out "$OUT" "$@"
python -m i2m2.sweep --out "$OUT" "$@" --last i2m2.results "$OUT" --dataset vqa_vs
