#!/usr/bin/env bash
# Tables through a real SLURM of one node, which it starts on this machine and ends: a run killed, one that fails, one preempted; torchrun;
# features as an array. Each run is compared bit for bit with the one made without SLURM. Needs root, and Debian's packages slurmctld,
# slurmd, slurm-client and munge, which it installs; where that cannot be, it says so and ends well. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
no() { echo "not tested with SLURM: $1"; exit 0; }
[ "$(id -u)" = 0 ] || no "it takes root to start one"
if ! command -v slurmctld slurmd sbatch munged > /dev/null; then
  command -v apt-get > /dev/null || no "there is no apt-get to install it with"
  packages=(slurmctld slurmd slurm-client munge)
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${packages[@]}"; } > /dev/null 2>&1 \
    || no "apt-get cannot install ${packages[*]}"
fi
cluster=$(mktemp -d)
end() {
  bash tests/i2m2/sweep/one_node_slurm.sh stop "$cluster"
  for _ in $(seq 25); do rm -rf "$cluster" 2> /dev/null && break || sleep 0.2; done  # while they write their last
}
trap end EXIT
bash tests/i2m2/sweep/one_node_slurm.sh start "$cluster" || no "it does not start here, which the lines above explain"
SLURM_CONF=$cluster/slurm.conf I2M2_ONE_NODE_SLURM=1 python -m pytest tests/i2m2/sweep/test_cluster.py "$@"
