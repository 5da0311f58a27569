#!/bin/bash
# One run:   sbatch [--ntasks=8 --time=4:00:00 ...] jobs/slurm/run.sh inputs/mine.json [--set key=value]...
# Two minutes before its time is up (up to half a minute earlier) the run writes a checkpoint and is queued again, until
# it is done: --time is longer than that. To stop it with a checkpoint: scancel --batch --signal=TERM JOB.
#SBATCH --job-name=autolora
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=outputs/%x-%j.out
. jobs/launch.sh || exit 2

launch "$@"
status=$?
if has_to_continue $status; then scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
