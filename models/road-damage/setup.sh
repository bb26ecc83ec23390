#!/usr/bin/env bash
# Make the training environment .tools/train. Does nothing if it is up to date.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
environment=$here/../../.tools/train
wanted=$here/requirements.txt
stamp=$environment/requirements.installed

if cmp --silent "$wanted" "$stamp"; then
    exit 0
fi
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/pip" install --quiet --requirement "$wanted"
cp "$wanted" "$stamp"
