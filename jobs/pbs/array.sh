#!/bin/bash
# Points of a sweep, submitted by   jobs/sweep submit SWEEP.json --scheduler pbs
# Line i of the file SWEEP_TASKS is the point of array element i.
#PBS -N autolora-sweep
#PBS -j oe
#PBS -r y
cd "$PBS_O_WORKDIR" && . jobs/launch.sh && . jobs/pbs/job.sh || exit 2

index=${SWEEP_INDEX:-$PBS_ARRAY_INDEX}
point=$(sed -n "$((index + 1))p" "$SWEEP_TASKS")
settings=()
set_wall_time
launch_point "$point" "pbs $PBS_JOBID" "${settings[@]}"
status=$?
if has_to_continue $status; then
    variables=SWEEP_TASKS=$SWEEP_TASKS,SWEEP_INDEX=$index,AUTOLORA_THREADS=$AUTOLORA_THREADS
    successor=$(submit_successor "$variables" jobs/pbs/array.sh) && echo "pbs $successor" > "$point/job"
fi
exit $status
