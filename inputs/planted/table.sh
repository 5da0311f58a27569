#!/bin/sh
# One of the README's tables of planted ranks: makes the data that is missing (outputs/planted), runs the sweep, prints.
#     sh inputs/planted/table.sh rules|losses [like jobs/sweep submit: --jobs 2, --scheduler slurm, ...]
# Again goes on. PYTHON: an interpreter with the packages of analysis/requirements.txt (python3).
set -eu
python=${PYTHON:-python3} options=''
case ${1-} in
rules) seeds=10 sweeps='planted-rules planted-rules-more' ;;
losses) seeds=3 sweeps='planted-losses planted-losses-oracle' options=--losses ;;
*) echo "usage: $0 rules|losses [ARGUMENTS OF jobs/sweep submit]" >&2; exit 2 ;;
esac
shift
out=outputs/planted/tiny
for seed in $(seq $seeds); do
    [ -f "$out-high-$seed/truth.json" ] ||
        "$python" inputs/planted/generate.py --tiny --train 16000 --seed "$seed" --noise 0.05 0.2 0.4 \
            --out "$out-low-$seed" "$out-middle-$seed" "$out-high-$seed"
done
folders=''
for sweep in $sweeps; do
    jobs/sweep submit "inputs/sweeps/$sweep.json" "$@"
    folders="$folders outputs/sweeps/$sweep"
done
# shellcheck disable=SC2086
"$python" -m analysis planted $folders $options --markdown
