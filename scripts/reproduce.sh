#!/usr/bin/env bash
# Every table and figure of the paper, then results/report.html. A data set that is there (data/avmnist, data/mimic, data/fastmri,
# data/vqa_vs, data/nlvr2) is used with five seeds; for one that is not, data are generated (SYNTHETIC, labelled so everywhere), one seed.
# --smoke: generated data alone, one seed: under 20 minutes on 2 cores. OUT=results JOBS=2 by environment.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export OUT=${OUT:-results} JOBS=${JOBS:-2}
SMOKE=${1:-}
if [ -n "$SMOKE" ] && [ "$SMOKE" != --smoke ]; then
  echo "error: $SMOKE is no option; --smoke is the only one" >&2
  exit 2
fi

# there NAME: whether the data set is to be used as it lies in data/NAME
there() { [ -z "$SMOKE" ] && [ -e "data/$1" ]; }

if there avmnist; then bash scripts/avmnist.sh; else SEEDS=0 bash scripts/quickstart.sh; fi
if there mimic; then bash scripts/mimic.sh; else SEEDS=0 bash scripts/mimic.sh --data.source synthetic; fi
if there fastmri; then
  bash scripts/fastmri.sh
  ROWS="unimodal_magnitude, unimodal_phase, inter" bash scripts/fastmri.sh --model.network wide_resnet20_3 --tag wide_resnet20_3
  ROWS=i2m2 bash scripts/fastmri.sh --init scratch
  python -m fastMRI.controls "$OUT/fastmri"
  python -m fastMRI.noise "$OUT/fastmri" --runs inter i2m2
else
  export CONFIG=fastMRI/configs/fastmri_synthetic.yaml
  SEEDS=0 bash scripts/fastmri.sh
  SEEDS=0 ROWS=i2m2 bash scripts/fastmri.sh --init scratch
  python -m fastMRI.controls "$OUT/fastmri-synthetic-avg4"
  python -m fastMRI.noise "$OUT/fastmri-synthetic-avg4" --runs inter i2m2
  unset CONFIG
fi
if there vqa_vs; then bash scripts/vqa_vs.sh; else SEEDS=0 CONFIG=VQA_and_NLVR2/configs/vqa_vs_synthetic.yaml bash scripts/vqa_vs.sh; fi
if there nlvr2; then bash scripts/nlvr2.sh; else SEEDS=0 CONFIG=VQA_and_NLVR2/configs/nlvr2_synthetic.yaml bash scripts/nlvr2.sh; fi
python -m i2m2.results "$OUT" > /dev/null
echo "report: $OUT/report.html"
