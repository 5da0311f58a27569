# Sourced by the job scripts of every scheduler: runs autolora as an MPI job, tells it in time when the job has
# to stop, and says how it ended.
#
#   launch INPUT [--set key=value]...
#
# What a cluster needs besides (module load ...) goes into jobs/env/local.sh. Variables:
#   AUTOLORA            the program (bin/autolora)
#   AUTOLORA_LAUNCHER   mpirun (default) or srun

: "${AUTOLORA:=bin/autolora}" "${AUTOLORA_LAUNCHER:=mpirun}"
if [ -f jobs/env/local.sh ]; then . jobs/env/local.sh; fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}" OMP_PROC_BIND="${OMP_PROC_BIND:-false}"

start_ranks() {
    case $AUTOLORA_LAUNCHER in
    srun) srun --mpi=pmix --kill-on-bad-exit=1 "$AUTOLORA" run "$@" --resume & ;;
    mpirun)
        # Open MPI that was built without PBS support has to be told of the hosts.
        mpirun --bind-to none ${PBS_NODEFILE:+--hostfile "$PBS_NODEFILE"} ${SLURM_NTASKS:+-n "$SLURM_NTASKS"} \
            "$AUTOLORA" run "$@" --resume &
        ;;
    *) echo "AUTOLORA_LAUNCHER is mpirun or srun, not $AUTOLORA_LAUNCHER" >&2 && return 2 ;;
    esac
    ranks=$!
}

# A signal ends `wait` early, so wait again until the ranks are gone.
launch() {
    start_ranks "$@" || return
    trap 'kill -USR1 $ranks 2>/dev/null' USR1
    trap 'kill -TERM $ranks 2>/dev/null' TERM
    while :; do
        wait "$ranks"
        status=$?
        kill -0 "$ranks" 2>/dev/null || break
    done
    trap - USR1 TERM
    return $status
}
