#!/bin/bash
# Points of a sweep, submitted by   jobs/sweep submit SWEEP.json --scheduler slurm
# Line i of the file SWEEP_TASKS is the point of array element i.
#SBATCH --job-name=autolora-sweep
#SBATCH --cpus-per-task=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
. jobs/launch.sh || exit 2

element=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
launch_point "$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$SWEEP_TASKS")" "slurm $element"
status=$?
if has_to_continue $status; then scontrol requeue "$element"; fi
exit $status
