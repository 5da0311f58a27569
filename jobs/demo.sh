#!/usr/bin/env bash
# The demonstration: ranks searched and retrained on 2 MPI ranks, beside uniform LoRA at the same number of
# parameters. Arguments go to both runs. Settings: AUTOLORA, MPIRUN, MPIRUN_FLAGS, PYTHON.
set -euo pipefail
autolora=${AUTOLORA:-bin/autolora}
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

run() {
    # shellcheck disable=SC2086 # the flags are words
    ${MPIRUN:-mpirun} ${MPIRUN_FLAGS:---oversubscribe --bind-to none} -n 2 "$autolora" run inputs/demo.json "$@"
}

echo "== AutoLoRA: search, ranks, retrain =="
run "$@"
mean_rank=$("${PYTHON:-python3}" -c 'import json; print(json.load(open("outputs/demo/result.json"))["mean_rank"])')
echo
echo "== uniform LoRA at the same number of parameters (mean rank $mean_rank) =="
run "$@" --set adapter.method=lora --set "adapter.mean_rank=$mean_rank" --set run.name=demo-uniform

"${PYTHON:-python3}" - outputs/demo outputs/demo-uniform << 'END'
import json
import sys

print("\n== both ==")
print(f"{'run':<14}{'dev MCC':>9}{'test MCC':>10}{'parameters':>12}{'mean rank':>11}{'seconds':>9}")
for folder in sys.argv[1:]:
    with open(f"{folder}/result.json", encoding="utf-8") as stream:
        result = json.load(stream)
    scores = [result["metrics"][split]["matthews_correlation"] for split in ("dev", "test")]
    print(f"{result['name']:<14}{scores[0]:>9.4f}{scores[1]:>10.4f}{result['trainable_parameters']:>12.0f}"
          f"{result['mean_rank']:>11.2f}{result['seconds']:>9.1f}")
print("\nfiles: " + ", ".join(f"{folder}/" for folder in sys.argv[1:]))
END
