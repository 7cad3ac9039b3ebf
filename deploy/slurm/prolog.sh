#!/bin/sh
# Slurm Prolog: tells dcgm-exporter which job holds which GPU (its --hpc-job-mapping-dir: one file per GPU, a job id a line).
# slurm.conf: Prolog=/etc/slurm/aiops/prolog.sh  Epilog=/etc/slurm/aiops/epilog.sh  PrologFlags=Alloc
# Runs as root on the compute node. It must never fail: a failing prolog drains the node.
dir=${AIOPS_JOB_MAPPING_DIR:-/run/dcgm-job-mapping}
gpus=${SLURM_JOB_GPUS:-$CUDA_VISIBLE_DEVICES}
case $SLURM_JOB_ID in '' | *[!0-9]*) exit 0 ;; esac
case $gpus in '' | *[!0-9,]*) exit 0 ;; esac
mkdir -p "$dir" || exit 0
for gpu in $(echo "$gpus" | tr , ' '); do
    file=$dir/$gpu
    (
        flock -w 5 9 || exit 0
        { grep -vx "$SLURM_JOB_ID" "$file" 2>/dev/null; echo "$SLURM_JOB_ID"; } >"$file.part" && mv "$file.part" "$file"
    ) 9>"$dir/.lock"
done
exit 0
