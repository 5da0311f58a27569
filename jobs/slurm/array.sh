#!/bin/bash
# The points of a sweep:   jobs/sweep submit inputs/sweeps/rank-grid.json --scheduler slurm   submits this.
# SWEEP_DIR is the sweep's folder; line i of its file `tasks` is the point of array element i.
#SBATCH --job-name=autolora-sweep
#SBATCH --cpus-per-task=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
. jobs/launch.sh

point=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$SWEEP_DIR/tasks")
launch "$point/input.json"
status=$?
echo $status > "$point/exit_code"
if [ $status -eq 75 ]; then scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"; fi
exit $status
