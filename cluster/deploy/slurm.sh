#!/usr/bin/env bash
# Untried: no Slurm has run it. A study on Slurm's nodes: `sbatch cluster/deploy/slurm.sh SWEEP --into DIR`.
#
# DIR on a folder that the first node can write (or an s3:// or gs:// URI), SWEEP where it can be read. joulelaw is the
# first on the PATH of every node, as `pip install -c constraints.txt '.[bench,cluster]'` in one environment on a shared
# folder puts it. Ended by its time or by scancel, the study is interrupted two minutes before; submitted again, it goes
# on. For several GPU models, take a heterogeneous job, or one job for each model: a study goes on where it stood.
#SBATCH --job-name=joulelaw
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
umask 077

# A token of this job alone, in a file that only its user can read, on a folder that all nodes see.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/joulelaw-$SLURM_JOB_ID"
mkdir -p "$HOME/.ray"
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
export RAY_worker_niceness=0 RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname -I | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS=$address:$port

# Ray's processes are children of srun and end with the job: nobody else's Ray is stopped.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --block --node-ip-address="$address" --port="$port" --include-dashboard=false \
    --metrics-export-port=8090 &
for _ in $(seq 60); do
    if ray status >/dev/null 2>&1; then break; fi
    sleep 2
done
if [ "${#nodes[@]}" -gt 1 ]; then
    workers=$(IFS=,; echo "${nodes[*]:1}")
    srun --overlap --nodes=$((${#nodes[@]} - 1)) --ntasks-per-node=1 --nodelist="$workers" \
        ray start --block --address="$RAY_ADDRESS" --metrics-export-port=8090 &
fi

# The study takes up nodes as they join. It is told of the end of the job's time as by Ctrl-C.
joulelaw run "$@" &
study=$!
trap 'kill -TERM "$study"' TERM
code=0
wait "$study" || code=$?
while kill -0 "$study" 2>/dev/null; do
    code=0
    wait "$study" || code=$?
done
exit "$code"
