"""Decode, STFT and Parquet as one would write them in Python, one process per core.

usage: featurize.py librosa|torch AUDIO_DIR OUT_DIR RATE N_FFT HOP  -> {"audio_s": ..., "wall_s": ...}

Magnitude and phase of the mono signal as f32, a fixed-size list per frame, zstd.
"""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np


def librosa_spectra(path, rate, n_fft, hop):
    import librosa

    signal, _ = librosa.load(path, sr=rate, mono=True)
    spectra = librosa.stft(signal, n_fft=n_fft, hop_length=hop)
    return len(signal), np.concatenate([np.abs(spectra), np.angle(spectra)]).T.astype(np.float32)


def torch_spectra(path, rate, n_fft, hop):
    import soundfile
    import soxr
    import torch

    torch.set_num_threads(1)
    signal, found = soundfile.read(path, dtype="float32", always_2d=True)
    signal = signal.mean(1)
    if found != rate:
        signal = soxr.resample(signal, found, rate)
    spectra = torch.stft(
        torch.from_numpy(signal),
        n_fft,
        hop,
        window=torch.hann_window(n_fft),
        center=True,
        return_complex=True,
    )
    return len(signal), torch.cat([spectra.abs(), spectra.angle()]).T.contiguous().numpy()


def one(peer, out, rate, n_fft, hop, path):
    import pyarrow
    import pyarrow.parquet

    spectra = {"librosa": librosa_spectra, "torch": torch_spectra}[peer]
    length, rows = spectra(path, rate, n_fft, hop)
    values = pyarrow.array(np.ascontiguousarray(rows).ravel())
    frames = pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
    table = pyarrow.table({"frame": frames})
    pyarrow.parquet.write_table(table, out / f"{path.name}.parquet", compression="zstd")
    return length / rate


def main():
    peer, corpus, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    rate, n_fft, hop = map(int, sys.argv[4:7])
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in corpus.rglob("*") if path.is_file())
    begun = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        seconds = sum(pool.map(partial(one, peer, out, rate, n_fft, hop), files))
    print(json.dumps({"audio_s": seconds, "wall_s": time.monotonic() - begun}))


if __name__ == "__main__":
    main()
