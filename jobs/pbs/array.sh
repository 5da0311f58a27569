#!/bin/bash
# The points of a sweep:   jobs/sweep submit inputs/sweeps/rank-grid.json --scheduler pbs   submits this.
#PBS -N autolora-sweep
#PBS -j oe
#PBS -r y
cd "$PBS_O_WORKDIR" || exit 2
. jobs/launch.sh

point=$(sed -n "$((PBS_ARRAY_INDEX + 1))p" "$SWEEP_DIR/tasks")
launch "$point/input.json"
status=$?
echo $status > "$point/exit_code"
exit $status
