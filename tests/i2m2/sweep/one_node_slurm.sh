#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: one_node_slurm.sh start DIR | stop DIR. Needs root and Debian's packages slurmctld,
# slurmd, slurm-client and munge. After start, SLURM_CONF=DIR/slurm.conf is what sbatch and squeue read.
set -euo pipefail
what=${1:?start or stop} dir=$(readlink -f "${2:?a folder}")
end() { [ ! -f "$dir/$1.pid" ] || kill "$(cat "$dir/$1.pid")" 2> /dev/null || true; }
if [ "$what" = stop ]; then
  export SLURM_CONF=$dir/slurm.conf
  scancel --user="$(id -un)" || true  # jobs that a failed test has left would outlive the daemons
  for _ in $(seq 50); do [ -n "$(squeue --noheader || true)" ] || break; sleep 0.2; done
  for daemon in slurmd slurmctld munged; do end "$daemon"; done
  exit
fi

# The partition `urgent` preempts jobs of `usual`, which are requeued, and begin again after cred_expire seconds. Its GPUs are none, but SLURM gives them out.
mkdir -p "$dir"/{state,spool,munge} && chmod 700 "$dir/munge"
host=$(hostname -s)
cat > "$dir/slurm.conf" <<EOF
ClusterName=one_node
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmctldPort=16827
SlurmdPort=16828
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,default_queue_depth=100
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 Gres=gpu:2 CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem/ {print int($2 * 0.8)}') State=UNKNOWN
PartitionName=usual Nodes=$host Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes=$host PriorityTier=2 State=UP
EOF
printf 'Name=gpu File=%s\n' /dev/null /dev/zero > "$dir/gres.conf"

# Authentication of its own, so that a cluster that is here already is not touched.
(umask 077 && head -c 1024 /dev/urandom > "$dir/munge/key")
munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" --log-file="$dir/munge/log" \
  --seed-file="$dir/munge/seed" --num-threads=2 2> "$dir/munge/warnings"
export SLURM_CONF=$dir/slurm.conf
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 150); do
  if sinfo -h -o %T 2> /dev/null | grep -q idle; then exit; fi
  sleep 0.2
done
tail -n 5 "$dir"/slurmctld.log "$dir"/slurmd.log >&2
echo "error: SLURM has not started, see above" >&2
exit 1
