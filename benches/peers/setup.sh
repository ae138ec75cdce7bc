#!/usr/bin/env bash
# Installs what measure.py measures against, below target/peers.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=target/peers
mkdir -p "$peers"
test -d "$peers/venv" || python3 -m venv "$peers/venv"
"$peers/venv/bin/pip" install --quiet --upgrade pip
"$peers/venv/bin/pip" install --quiet \
    dvc ninja snakemake librosa soundfile soxr pyarrow datasets webdataset mosaicml-streaming blake3
"$peers/venv/bin/pip" install --quiet torch --index-url https://download.pytorch.org/whl/cpu ||
    "$peers/venv/bin/pip" install --quiet torch
# Xvc has no binary packages: half an hour of compiling on two cores.
if [ "${1:-}" = --xvc ]; then
    cargo install --quiet xvc --root "$peers/xvc"
fi
