#!/bin/sh
# The quick tests in the virtual environment .venv: sh tests/run.sh. All tests: sh tests/run.sh all
set -eu
cd "$(dirname "$0")/.."
case "${1:-quick}" in
    quick) NPGPT_PROFILE=quick ;;
    all) NPGPT_PROFILE=ci ;;
    *) echo "tests/run.sh: unknown argument '$1'; give none for the quick tests, or all" >&2; exit 2 ;;
esac
export NPGPT_PROFILE
. examples/environment.sh
started=$(date +%s)
.venv/bin/pip install -q -e ".[test]"
echo "installed in $(($(date +%s) - started)) s; now the kernels are compiled, then the tests run"
exec .venv/bin/python -m pytest -q -n auto
