#!/bin/bash
# One run:   qsub [-l select=1:ncpus=8:mpiprocs=8 -l walltime=04:00:00 ...] -v INPUT=inputs/mine.json jobs/pbs/run.sh
# Near the end of its time the run writes a checkpoint; PBS has no requeue from within, so the job submits its
# successor.
#PBS -N autolora
#PBS -l select=1:ncpus=4:mpiprocs=4
#PBS -l walltime=01:00:00
#PBS -j oe
#PBS -r y
cd "$PBS_O_WORKDIR" || exit 2
. jobs/launch.sh

launch "$INPUT"
status=$?
if [ $status -eq 75 ]; then qsub -v INPUT="$INPUT" jobs/pbs/run.sh; fi
exit $status
