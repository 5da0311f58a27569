#!/bin/sh
# gpt2-small-base.sh TOKENIZER: makes inputs/models/gpt2-small-base, a model without weights that
# inputs/gpt2-small-base.json trains from a random start. TOKENIZER is a folder with GPT-2's vocab.json and merges.txt.

tokenizer=${1:?"usage: jobs/setup/gpt2-small-base.sh TOKENIZER (a folder with vocab.json and merges.txt)"}
cd "$(dirname "$0")/../.." || exit 1
model=inputs/models/gpt2-small-base

mkdir -p "$model" &&
    cp inputs/gpt2-small-base/config.json "$model" &&
    cp "$tokenizer/vocab.json" "$tokenizer/merges.txt" "$model"
