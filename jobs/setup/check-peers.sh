#!/usr/bin/env bash
# The program beside PyTorch, transformers and tokenizers: makes the stored reference data again and compares,
# then compares live. Arguments: the folder of the compiled tests/tools. Settings: PYTHON, MODEL, DATA.
set -euo pipefail
tools=$1
environment=build/peers
wanted=$(sha256sum tests/peers/requirements.txt)
passed=0 failed=0 skipped=0

if [ "$(cat "$environment/complete" 2> /dev/null)" != "$wanted" ]; then
    echo "making a virtual environment in $environment (several GB)"
    rm -rf "$environment"
    "${PYTHON:-python3}" -m venv "$environment"
    "$environment/bin/pip" install -q --disable-pip-version-check -r tests/peers/requirements.txt
    echo "$wanted" > "$environment/complete"
fi
python=$environment/bin/python
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

check() { # NAME COMMAND...
    local name=$1
    shift
    echo "== $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL: $name"
    fi
}

skip() { # NAME REASON
    echo "== $1: skipped, $2"
    skipped=$((skipped + 1))
}

check "stored reference data of the models" "$python" tests/oracle/make_fixtures.py --check tests/fixtures
check "stored reference data of the tokenizer" "$python" tests/oracle/tokenizer_fixture.py --check tests/fixtures/tokenizer
check "logits on the demo corpus, live" "$python" tests/peers/test_live.py --tool "$tools/logits" inputs/demo.json \
    run.output_dir=build/peers-logits task.limit_train=8
if [ -d "$DATA" ]; then
    check "tokenizer on all texts and all of Unicode" "$python" tests/peers/compare_tokenizer.py \
        --model "$MODEL" --data "$DATA" --driver "$tools/tokenize"
    check "data sets" "$python" tests/peers/compare_dataset.py --driver "$tools/dump_dataset" --tokenizer "$MODEL" \
        --conll "$DATA"/ner/*/*.tsv --cola "$DATA"/glue/CoLA/{train,dev}.tsv --max-length 128 24
    check "logits on NCBI-disease, live" "$python" tests/peers/test_live.py --tool "$tools/logits" \
        inputs/ncbi-disease.json run.output_dir=build/peers-logits task.limit_dev=100 \
        "task.data_dir=$DATA/ner/NCBI-disease-IOB"
else
    for name in "tokenizer on all texts" "data sets" "logits on NCBI-disease"; do
        skip "$name" "there is no $DATA (make check-peers DATA=FOLDER with glue/ and ner/)"
    done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
