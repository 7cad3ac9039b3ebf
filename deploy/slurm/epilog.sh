#!/bin/sh
# Slurm Epilog: takes this job out of every GPU's mapping file; a file without jobs goes. See prolog.sh. Must never fail.
dir=${AIOPS_JOB_MAPPING_DIR:-/run/dcgm-job-mapping}
case $SLURM_JOB_ID in '' | *[!0-9]*) exit 0 ;; esac
[ -d "$dir" ] || exit 0
(
    flock -w 5 9 || exit 0
    for file in "$dir"/[0-9]*; do
        case $file in *.part) continue ;; esac
        grep -qx "$SLURM_JOB_ID" "$file" 2>/dev/null || continue
        grep -vx "$SLURM_JOB_ID" "$file" >"$file.part"
        if [ -s "$file.part" ]; then mv "$file.part" "$file"; else rm -f "$file" "$file.part"; fi
    done
) 9>"$dir/.lock"
exit 0
