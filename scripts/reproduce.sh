#!/usr/bin/env bash
# Every table and figure of the paper, then results/report.html. A data set that is there (data/avmnist, data/mimic, data/fastmri,
# data/vqa_vs, data/nlvr2) is used with five seeds; for one that is not, data are generated (SYNTHETIC, labelled so everywhere), one seed.
# --smoke: generated data alone, one seed, few epochs, neither Table 5 nor Fig. 4: under 20 minutes on 2 cores after the install.
# OUT=results JOBS=2 by environment; LAUNCHER=slurm CLUSTER=FILE submit it all as SLURM jobs, and this ends at once. What fails is named at the end (exit code 1), and the report holds the rest; the same command goes
# on with what is not finished.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export OUT=${OUT:-results} JOBS=${JOBS:-2}
SMOKE=${1:-}
if [ -n "$SMOKE" ] && [ "$SMOKE" != --smoke ]; then
  echo "error: $SMOKE is no option; --smoke is the only one" >&2
  exit 2
fi

# few N: the setting of so many epochs, if little time is to be spent
few() { [ -z "$SMOKE" ] || echo --optim.epochs "$1"; }
# there NAME: whether the data set is to be used as it lies in data/NAME
there() { [ -z "$SMOKE" ] && [ -e "data/$1" ]; }
# run [VARIABLE=VALUE ...] COMMAND: what fails is remembered, and the next begins
failed=()
run() { env "$@" || failed+=("$*"); }

if there avmnist; then run bash scripts/avmnist.sh; else run SEEDS=0 bash scripts/quickstart.sh $(few 4); fi
if there mimic; then run bash scripts/mimic.sh; else run SEEDS=0 bash scripts/mimic.sh --data.source synthetic $(few 4); fi
if there fastmri; then
  fastmri=(SEEDS="0 1 2 3 4" CONFIG=fastMRI/configs/fastmri.yaml) folder=$OUT/fastmri
else
  fastmri=(SEEDS=0 CONFIG=fastMRI/configs/fastmri_synthetic.yaml) folder=$OUT/fastmri-synthetic-avg4
fi
run "${fastmri[@]}" bash scripts/fastmri.sh $(few 2)
if [ -z "$SMOKE" ]; then
  run "${fastmri[@]}" ROWS=i2m2 bash scripts/fastmri.sh --init scratch
  run "${fastmri[@]}" ROWS="unimodal_magnitude, unimodal_phase, inter" bash scripts/fastmri.sh \
    --model.network wide_resnet20_3 --tag wide_resnet20_3
fi
run python -m i2m2.sweep --out "$OUT" --last fastMRI.controls "$folder"
run python -m i2m2.sweep --out "$OUT" --last fastMRI.noise "$folder" --runs inter i2m2
if there vqa_vs; then run bash scripts/vqa_vs.sh; else run SEEDS=0 CONFIG=VQA_and_NLVR2/configs/vqa_vs_synthetic.yaml bash scripts/vqa_vs.sh; fi
nlvr2=(SEEDS=0 CONFIG=VQA_and_NLVR2/configs/nlvr2_synthetic.yaml)
if there nlvr2; then
  run bash scripts/nlvr2.sh
elif [ -n "$SMOKE" ]; then
  run "${nlvr2[@]}" ROWS="inter, unimodal_image, unimodal_text" bash scripts/nlvr2.sh --optim.epochs 4
  run "${nlvr2[@]}" ROWS="i2m2, intra" bash scripts/nlvr2.sh --optim.epochs 1
else
  run "${nlvr2[@]}" bash scripts/nlvr2.sh
fi
run python -m i2m2.sweep --out "$OUT" --last i2m2.results "$OUT" > /dev/null
for command in "${failed[@]}"; do echo "error: failed: $command" >&2; done
echo "report: $OUT/report.html"
[ ${#failed[@]} -eq 0 ]
