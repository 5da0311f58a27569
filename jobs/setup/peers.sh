#!/usr/bin/env bash
# The Python environment of tests/peers/requirements.txt under build/peers (5 GB), for make check-peers and bench-peers.
set -uo pipefail

python=${PYTHON:-python3}
requirements=tests/peers/requirements.txt
environment=build/peers
stamp=$environment/requirements.sha256
peer=$environment/bin/python

sha256sum --check --status "$stamp" 2> /dev/null && "$peer" -c '' && exit
echo "installing PyTorch and others into $environment (5 GB)"
rm -rf "$environment"
"$python" -m venv "$environment" &&
    "$peer" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --use-pep517 -r "$requirements" &&
    sha256sum "$requirements" > "$stamp" && exit
echo "The Python packages of $requirements could not be installed (is the network there?)." >&2
exit 1
