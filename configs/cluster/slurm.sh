#!/bin/bash
# A run on several nodes of a Slurm cluster: sbatch configs/cluster/slurm.sh CONFIG RUN STORE
# Submit it from a folder on storage that every node sees, with drift-training[ray,train] in the environment; CONFIG,
# RUN and STORE are on that storage too. Submitted again, it continues.
#SBATCH --job-name=drift
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
set -eu
config=$1 run=$2 store=$3
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)  # this script runs there
port=$((20000 + SLURM_JOB_ID % 20000))                             # another one for each job on a shared node

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --include-dashboard=false --disable-usage-stats --block &
until ray status --address "$head:$port" > /dev/null 2>&1; do sleep 2; done
srun --overlap --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" ray start --address "$head:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats --block &
until [ "$(ray status --address "$head:$port" 2> /dev/null | grep -c '^ *1 node_')" -ge "$SLURM_NNODES" ]; do sleep 2; done

drift run "$config" --out "$run" --set store="$store" --set cluster.address="$head:$port"
