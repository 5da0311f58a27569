#!/bin/bash
# One run:   qsub [-l select=1:ncpus=8:mpiprocs=8,walltime=04:00:00] -v INPUT=inputs/mine.json jobs/pbs/run.sh
# Near the end of its time the run writes a checkpoint, and the job submits a successor that asks for the same.
# More threads a rank: -l select=1:ncpus=8:mpiprocs=2 -v INPUT=...,AUTOLORA_THREADS=4.
#PBS -N autolora
#PBS -l select=1:ncpus=4:mpiprocs=4
#PBS -l walltime=01:00:00
#PBS -j oe
#PBS -r y
cd "$PBS_O_WORKDIR" && . jobs/launch.sh && . jobs/pbs/job.sh || exit 2

settings=()
set_wall_time
launch "$INPUT" "${settings[@]}"
status=$?
if has_to_continue $status; then
    submit_successor "INPUT=$INPUT,AUTOLORA_THREADS=$AUTOLORA_THREADS" jobs/pbs/run.sh
fi
exit $status
