# Sourced by the job scripts of every scheduler: runs autolora as an MPI job and tells it in time when the job has to
# stop. What a cluster needs besides (module load ...) goes into jobs/env/local.sh. Variables:
#   AUTOLORA            the program (bin/autolora)
#   AUTOLORA_LAUNCHER   mpirun (default) or srun
#   AUTOLORA_RANKS      MPI ranks (those of the allocation)
#   AUTOLORA_THREADS    threads a rank (Slurm's --cpus-per-task, else 1)

if [ -f jobs/env/local.sh ]; then . jobs/env/local.sh; fi
: "${AUTOLORA:=bin/autolora}" "${AUTOLORA_LAUNCHER:=mpirun}"
: "${AUTOLORA_RANKS:=${SLURM_NTASKS:-}}" "${AUTOLORA_THREADS:=${SLURM_CPUS_PER_TASK:-1}}"
# PBS sets OMP_NUM_THREADS to all cores of a chunk, whatever the number of its ranks.
export OMP_NUM_THREADS=$AUTOLORA_THREADS
# A job without the user's variables (sbatch --export) has its own, and so have the ranks.
unset SLURM_EXPORT_ENV
TO_BE_CONTINUED=75 # exit code of a run that stopped with a checkpoint

# The hosts of a PBS job with the number of ranks on each, HOST:N,...: an Open MPI without support for PBS has to be told.
# (It takes a host that its --hostfile names once as one with all its cores.)
pbs_hosts() {
    awk '!count[$1]++ { names[++n] = $1 }
         END { for (i = 1; i <= n; i++) printf("%s%s:%d", (i > 1 ? "," : ""), names[i], count[names[i]]) }' \
        "$PBS_NODEFILE"
}

start_ranks() {
    case $AUTOLORA_LAUNCHER in
    # The steps of Slurm 22.05 and later do not inherit --cpus-per-task.
    srun) srun --mpi=pmix --kill-on-bad-exit=1 --cpus-per-task="$AUTOLORA_THREADS" "$AUTOLORA" run "$@" --resume & ;;
    # Ranks that a remote shell starts would not get the variables.
    mpirun)
        mpirun --bind-to none -x OMP_NUM_THREADS ${LD_LIBRARY_PATH:+-x LD_LIBRARY_PATH} \
            ${PBS_NODEFILE:+--host "$(pbs_hosts)"} ${AUTOLORA_RANKS:+-n "$AUTOLORA_RANKS"} \
            "$AUTOLORA" run "$@" --resume &
        ;;
    *) echo "AUTOLORA_LAUNCHER is mpirun or srun, not $AUTOLORA_LAUNCHER" >&2 && return 2 ;;
    esac
    ranks=$!
}

# launch INPUT [--set key=value]...: returns the run's exit code.
# The ranks get USR1 in any case: at a TERM mpirun would give them a second, not the time for a checkpoint. A TERM
# means that the job is cancelled, or that the scheduler itself queues it again.
launch() {
    ranks=0 is_cancelled=false
    trap '[ $ranks -eq 0 ] || kill -USR1 $ranks 2> /dev/null' USR1
    trap 'is_cancelled=true; [ $ranks -eq 0 ] || kill -USR1 $ranks 2> /dev/null' TERM
    start_ranks "$@" || return
    wait $ranks # a signal ends it early
    while kill -0 $ranks 2> /dev/null; do wait $ranks; done
    wait $ranks
    local status=$?
    trap - USR1 TERM
    # Ended by USR1 itself: it came before the program had started.
    if [ $status -eq $((128 + $(kill -l USR1))) ]; then status=$TO_BE_CONTINUED; fi
    return $status
}

# launch_point FOLDER JOB [--set key=value]...: the point of a sweep (jobs/sweep) with the input FOLDER.json. FOLDER gets
# which job it is, what it prints, and how it ended.
launch_point() {
    local folder=$1 status
    is_cancelled=false
    if [ ! -d "$folder" ]; then echo "no folder '$folder' of a point" >&2 && return 2; fi
    rm -f "$folder/exit_code"
    echo "$2" > "$folder/job"
    launch "$folder.json" "${@:3}" >> "$folder/output.txt" 2>&1
    status=$?
    echo $status > "$folder/exit_code"
    return $status
}

# has_to_continue STATUS: should the job be queued again?
has_to_continue() {
    [ "$1" -eq $TO_BE_CONTINUED ] && [ $is_cancelled = false ]
}
