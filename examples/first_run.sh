#!/bin/sh
# Train a small GPT on Python's own documentation, and let it write: sh examples/first_run.sh
set -eu
cd "$(dirname "$0")/.."
. examples/environment.sh
.venv/bin/pip install -q -e .
.venv/bin/npgpt train
