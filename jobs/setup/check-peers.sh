#!/usr/bin/env bash
# make check-peers: makes the environment of tests/peers/requirements.txt under build/peers, then makes the reference
# data again and compares the program with PyTorch, transformers, tokenizers and seqeval on real text. What needs the
# files in $DATA is skipped where they are absent. The last line is `N passed, N failed, N skipped`.
#
#   jobs/setup/check-peers.sh TOOLS PROGRAM    the folder of the compiled tests/tools, the program
set -uo pipefail

tools=$1 program=$2
model=${MODEL:-inputs/models/all-MiniLM-L6-v2}
data=${DATA:-../shared/data}
environment=build/peers
peer=$environment/bin/python

passed=0 failed=0 skipped=0
compare() { # NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    echo "---- $name"
    if "$@"; then
        passed=$((passed + 1))
        echo "pass  $((SECONDS - start)) s  $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $((SECONDS - start)) s  $name"
    fi
}
compare_with_data() {
    if [ -d "$data" ]; then
        compare "$@"
    else
        skipped=$((skipped + 1))
        echo "skip  $1: no folder $data (make check-peers DATA=...)"
    fi
}

bash jobs/setup/peers.sh || exit 1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONDONTWRITEBYTECODE=1
# The tools are started without mpirun.
export OMP_NUM_THREADS=1

compare "reference data" "$peer" tests/oracle/make_fixtures.py --check tests/fixtures
compare "tokenizer's reference data" "$peer" tests/oracle/tokenizer_fixture.py --check tests/fixtures/tokenizer
logits() { # INPUT [KEY=VALUE]...
    "$peer" tests/peers/test_live.py --tool "$tools/logits" "$@" "model.path=$model" "run.output_dir=$environment/logits" \
        task.limit_train=100
}
dataset() {
    "$peer" tests/peers/compare_dataset.py --driver "$tools/dump_dataset" --tokenizer "$model" "$@"
}

compare "exports and adapters" "$peer" tests/peers/test_export.py --program "$program" --tool "$tools/logits" \
    --model "$model"
compare "logits, demonstration data" logits inputs/demo.json
compare "dataset reader, demonstration data" dataset --glue cola=inputs/demo
# The vocabulary alone: the base model's own tokenizer pads and cuts.
mkdir -p "$environment/vocabulary" && cp "$model/vocab.txt" "$environment/vocabulary"
tokenizers=("$environment/vocabulary")
for folder in "$data"/tokenizers/*/; do
    [ -d "$folder" ] && tokenizers+=("${folder%/}")
done
compare_with_data "tokenizers" "$peer" tests/peers/compare_tokenizer.py --model "${tokenizers[@]}" --data "$data" \
    --driver "$tools/tokenize"
compare_with_data "dataset reader" dataset --conll "$data"/ner/* \
    --glue "cola=$data/glue/CoLA" "mrpc=$data/glue/MRPC" "stsb=$data/glue/STS-B"
for family in roberta:RobertaTokenizer gpt2:GPT2Tokenizer; do # their special tokens around one text and two
    folder=$environment/${family%:*}
    mkdir -p "$folder" && cp "$data/tokenizers/${family%:*}"/{tokenizer,vocab}.json "$folder" 2> /dev/null
    cp "$data/tokenizers/${family%:*}/merges.txt" "$folder" 2> /dev/null
    echo "{\"tokenizer_class\": \"${family#*:}\"}" > "$folder/tokenizer_config.json"
    compare_with_data "pairs, ${family%:*}" "$peer" tests/peers/compare_dataset.py --driver "$tools/dump_dataset" \
        --tokenizer "$folder" --glue "mrpc=$data/glue/MRPC" "stsb=$data/glue/STS-B"
done
compare_with_data "scores" "$peer" tests/peers/compare_metrics.py --driver "$tools/metrics" --glue "$data/glue"
compare_with_data "contexts and completions" "$peer" tests/peers/compare_lm.py --driver "$tools/dump_dataset" \
    --tokenizer "$data/tokenizers/gpt2" --lines "$data"/nlg/e2e/{train,valid,test}.txt \
    --webnlg "$data/nlg/webnlg_sample/dev.json"
if command -v java > /dev/null; then # the public scorers' tokenizer
    compare "text scores' reference data" "$peer" tests/oracle/nlg_scores.py --check tests/fixtures/nlg_scores
    compare_with_data "text scores" "$peer" tests/peers/compare_nlg_scores.py --tool "$tools/score_text" \
        --data "$data/nlg"
else
    skipped=$((skipped + 2))
    echo "skip  text scores and their reference data: java is not there"
fi
compare_with_data "logits, CoLA" logits inputs/cola.json "task.data_dir=$data/glue/CoLA" task.limit_dev=200
compare_with_data "logits, NCBI-disease" logits inputs/ncbi-disease.json "task.data_dir=$data/ner/NCBI-disease-IOB" \
    task.limit_dev=100

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
