#!/bin/sh
# The quick tests, in a virtual environment of their own: sh tests/run.sh. All tests: sh tests/run.sh all
set -eu
cd "$(dirname "$0")/.."
. examples/environment.sh
started=$(date +%s)
.venv/bin/pip install -q -e ".[test]"
echo "installed in $(($(date +%s) - started)) s"
case "${1:-quick}" in
    quick) profile=quick ;;
    all) profile=ci ;;
    *) echo "tests/run.sh: unknown argument '$1'; give none for the quick tests, or 'all'" >&2; exit 2 ;;
esac
NPGPT_PROFILE=$profile exec .venv/bin/python -m pytest -q -n auto
