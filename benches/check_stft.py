#!/usr/bin/env python3
"""Compares shards of `featurize` with librosa's STFT of the same PCM.

    python3 -m pip install librosa pyarrow soundfile
    python3 benches/check_stft.py pcm.wav frames.parquet [pcm.wav frames.parquet ...]

`pcm.wav` is the artifact of `decode` or `render`, `frames.parquet` that of
`featurize` for the same item (`pipeline export STAGE ITEM --out PATH`).

Printed per file, as the largest differences over all frames and bins:

- linear magnitudes: relative to the largest magnitude of their frame ("of the frame's
  peak"), but at least to 6.2e-5, the least normal f16;
- log magnitudes: of the stored nepers, relative to their size but at least to 1 ("of
  nepers"), and of the magnitudes they stand for, relative to a full-scale sine ("of
  full scale"); what lies at the floor is left out;
- phases of bins above 1e-3 of the peak, in radians.

Exit status 1 if one of them exceeds 1e-4 (f32) or 1e-3 (f16), phases 2e-3, or if frames
or bins differ in number.
"""

import argparse
import sys

import librosa
import numpy as np
import pyarrow.parquet as pq
import soundfile


def stored(table, name):
    """A fixed-size list column as an array shaped (frames, width)."""
    column = table.column(name).combine_chunks()
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)


def windows(kind, length):
    if kind != "gauss":
        return librosa.filters.get_window(kind, length, fftbins=True)
    t = (np.arange(length) - length / 2) / length
    return np.exp(4 * np.log(0.01) * t * t)


def librosa_stft(pcm, meta):
    reflect = meta["padding"] == "reflect"
    return librosa.stft(
        pcm,
        n_fft=int(meta["n_fft"]),
        hop_length=int(meta["hop"]),
        win_length=int(meta["win_length"]),
        window=windows(meta["window"], int(meta["win_length"])),
        center=reflect,
        pad_mode="reflect",
    ).T


def check(wav, shard):
    pcm, rate = soundfile.read(wav, dtype="float32")
    table = pq.read_table(shard)
    pairs = pq.read_metadata(shard).metadata or {}
    meta = {key.decode(): value.decode() for key, value in pairs.items()}
    if int(meta["rate"]) != rate or int(meta["samples"]) != len(pcm):
        return [f"{shard} was not made of {wav}"]
    spectra = librosa_stft(pcm, meta)
    ours = stored(table, "magnitude")
    tolerance = 1e-3 if ours.dtype == np.float16 else 1e-4
    if ours.shape != spectra.shape:
        return [f"{shard}: shaped {ours.shape}, librosa gives {spectra.shape}"]
    theirs, ours = np.abs(spectra).astype(np.float64), ours.astype(np.float64)
    floor, full_scale = float(meta.get("floor", "-inf")), float(meta["full_scale"])
    peak = theirs.max()
    if meta["magnitude"] == "log":
        nepers = np.log(np.maximum(theirs / full_scale, np.exp(floor)))
        heard = nepers > floor
        errors = {
            "of nepers": np.abs(ours - nepers) / np.maximum(np.abs(nepers), 1),
            "of full scale": np.abs(np.exp(ours) - np.exp(nepers)) * heard,
        }
    else:
        theirs = np.maximum(theirs, full_scale * np.exp(floor))
        peaks = np.maximum(theirs.max(axis=1, keepdims=True), 6.2e-5)
        errors = {"of the frame's peak": np.abs(ours - theirs) / peaks}
    if "phase" in table.column_names:
        loud = np.abs(spectra) > 1e-3 * peak
        turned = stored(table, "phase").astype(np.float64) - np.angle(spectra)
        errors["rad of phase"] = np.abs(np.angle(np.exp(1j * turned)))[loud]
    errors = {name: values.max(initial=0) for name, values in errors.items()}
    shown = ", ".join(f"{value:.1e} {name}" for name, value in errors.items())
    print(f"{shard}: {ours.shape[0]} frames of {ours.shape[1]} bins, {meta['magnitude']}: {shown}")
    limits = {"rad of phase": 2e-3}
    return [
        f"{shard}: {value:.1e} {name} exceeds {limits.get(name, tolerance):.0e}"
        for name, value in errors.items()
        if not value <= limits.get(name, tolerance)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="pcm.wav frames.parquet")
    files = parser.parse_args().files
    if len(files) % 2:
        parser.error("files come in pairs: pcm.wav frames.parquet")
    bad = [text for pair in zip(files[::2], files[1::2]) for text in check(*pair)]
    for text in bad:
        print(f"error: {text}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
