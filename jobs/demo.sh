#!/usr/bin/env bash
# make demo: AutoLoRA on the demonstration data, then LoRA with the same mean rank everywhere, on 2 MPI ranks;
# ends with the learned ranks and both results side by side.
#
#   jobs/demo.sh [--set key=value]...        more settings for both runs
set -euo pipefail

autolora=${AUTOLORA:-bin/autolora}
python=${PYTHON:-python3}
ranks=2
# Open MPI refuses to start as root unless told; containers often forbid its single-copy transfers.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl_vader_single_copy_mechanism=none

run() {
    echo "==== $1"
    shift
    ${MPIRUN:-mpirun} ${MPIRUN_FLAGS---oversubscribe --bind-to none} -n $ranks "$autolora" run inputs/demo.json "$@"
    echo
}

number() { # NAME: of the search's result.json
    "$python" -c 'import json, sys; print(json.load(open("outputs/demo/result.json"))[sys.argv[1]])' "$1"
}

start=$SECONDS
run "AutoLoRA: search, then retrain at the ranks found" "$@" --set run.name=demo --set run.output_dir=
mean_rank=$(number mean_rank)
run "LoRA: mean rank $mean_rank, spread evenly" "$@" --set run.name=demo-uniform --set run.output_dir= \
    --set adapter.method=lora --set "adapter.mean_rank=$mean_rank"

echo "==== The two beside each other"
"$python" - $((SECONDS - start)) << 'END'
import json
import sys

autolora, uniform = (json.load(open(f"outputs/{name}/result.json")) for name in ("demo", "demo-uniform"))

modules = [name.split(".layer.")[1].split(".", 1) for name in autolora["ranks"]]
projections = list(dict.fromkeys(projection for _, projection in modules))
most = max(1, *autolora["ranks"].values())
print("ranks" + "".join(f"  {projection.split('.')[-1]:16}" for projection in projections))
rows = {}
for (layer, projection), rank in zip(modules, autolora["ranks"].values()):
    rows.setdefault(layer, {})[projection] = f"{rank:3} {'#' * -(-rank * 12 // most)}"
for layer, row in rows.items():
    print(f"{layer:>5}" + "".join(f"  {row.get(projection, ''):16}" for projection in projections))

metric = autolora["metric_name"]
splits = list(autolora["metrics"])
print(f"\n{metric:24}" + "".join(f"{split:>8}" for split in splits) + "   mean rank   adapter parameters   seconds")
for name, result in ("AutoLoRA", autolora), ("LoRA, spread evenly", uniform):
    scores = "".join(f"{result['metrics'][split][metric]:8.4f}" for split in splits)
    print(f"{name:24}{scores}{result['mean_rank']:12.2f}{result['adapter_parameters']:21,}{result['seconds']:10.0f}")
print(f"\n{int(sys.argv[1])} s in all; files: outputs/demo (AutoLoRA), outputs/demo-uniform (LoRA)")
END
