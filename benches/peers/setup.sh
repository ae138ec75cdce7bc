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
environment data librosa soundfile soxr pyarrow torch blake3 datasets webdataset
environment mosaicml mosaicml-streaming
# Xvc has no binary packages: half an hour of compiling on two cores.
if [ "${1:-}" = --xvc ]; then
    cargo install --quiet xvc --root "$peers/xvc"
fi
