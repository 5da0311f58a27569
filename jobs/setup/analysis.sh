#!/bin/sh
# make analysis-setup: the Python packages of analysis/requirements.txt. Where $PYTHON has them nothing is done; else they
# go into an environment of their own, build/analysis, of about 350 MB.
#
# Debian has them too: python3-h5py python3-pandas python3-matplotlib python3-scipy python3-pytest
python=${PYTHON:-python3}
requirements=analysis/requirements.txt
environment=build/analysis

has_all() { "$1" -c 'import h5py, matplotlib, numpy, pandas, pytest, scipy' 2> /dev/null; }

if has_all "$python"; then
    echo "$python has what analysis/ needs"
    exit
fi
if ! has_all $environment/bin/python; then
    echo "installing what analysis/ needs into $environment"
    rm -rf $environment
    "$python" -m venv $environment &&
        $environment/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r $requirements || exit 1
fi
echo "use it as $environment/bin/python -m analysis"
