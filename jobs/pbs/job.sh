# Sourced by the PBS scripts: what the job was given, and its successor.

# resource NAME: of this job, as qstat shows it; nothing if it cannot be found out.
resource() {
    qstat -f "$PBS_JOBID" 2> /dev/null | awk -v name="Resource_List.$1" '
        /^\t[^\t ]/ && !/ = / { value = value substr($0, 2); next }  # a long value goes on in the next line
        { if (is_it) exit; is_it = $1 == name; value = $3 }
        END { if (is_it) print value }'
}

# The end of the time: PBS warns nobody.
set_wall_time() {
    local time
    time=$(resource walltime)
    [[ $time =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]] || return
    time=$((10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]} - SECONDS))
    settings=(--set "output.wall_time=$time")
}

# submit_successor VARIABLES SCRIPT: prints the job's id. PBS has no way to queue a job again from within.
submit_successor() {
    local select walltime request
    select=$(resource select) walltime=$(resource walltime)
    request=${select:+select=$select}${select:+${walltime:+,}}${walltime:+walltime=$walltime}
    qsub ${request:+-l "$request"} -v "$1" "$2"
}
