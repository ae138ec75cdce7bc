#!/usr/bin/env bash
# Installs what measure.py measures against, below target/peers.
set -euo pipefail
cd "$(dirname "$0")/../.."
peers=target/peers
mkdir -p "$peers"
# An environment each: together their requirements contradict one another.
environment() {
    local name=$1
    shift
    test -d "$peers/$name" || python3 -m venv "$peers/$name"
    "$peers/$name/bin/pip" install --quiet "$@"
}
environment dvc dvc ninja
environment snakemake snakemake
environment xvc xvc
environment data librosa soundfile soxr pyarrow torch blake3 datasets webdataset
# What MosaicML streaming imports to read local shards: all that it requires (the clients of four
# clouds) does not resolve.
environment data torchvision transformers Brotli python-snappy zstd pillow catalogue
environment data --no-deps mosaicml-streaming
