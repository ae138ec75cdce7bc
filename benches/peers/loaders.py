"""Shuffled batches of 32 from 8,192 samples of 64 x 513 f32, into a torch tensor; best of three epochs.

usage: loaders.py FOLDER datasets|webdataset|mosaicml  -> {"gb_per_s": ...}

The samples are written below FOLDER in the peer's own format, once.
"""

import json
import sys
import time
from pathlib import Path

SAMPLES, FRAMES, BINS, BATCH = 8192, 64, 513, 32


def sample(number):
    import numpy as np

    return np.random.default_rng(number).standard_normal((FRAMES, BINS), dtype=np.float32)


def prepare(folder, peer):
    """Writes the samples in the peer's own format, once."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if peer == "datasets":
        import datasets

        feature = datasets.Features({"x": datasets.Array2D((FRAMES, BINS), "float32")})
        rows = datasets.Dataset.from_generator(
            lambda: ({"x": sample(i)} for i in range(SAMPLES)),
            features=feature,
            cache_dir=str(folder / "cache"),
        )
        rows.save_to_disk(str(folder / "rows"))
    elif peer == "webdataset":
        import webdataset

        with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=512, verbose=0) as sink:
            for i in range(SAMPLES):
                sink.write({"__key__": f"{i:06d}", "x.npy": sample(i)})
    else:
        import streaming

        columns = {"x": f"ndarray:float32:{FRAMES},{BINS}"}
        with streaming.MDSWriter(out=str(folder / "rows"), columns=columns) as out:
            for i in range(SAMPLES):
                out.write({"x": sample(i)})
    (folder / "done").touch()


def batches(folder, peer):
    """An endless number of epochs, each an iterator of tensors."""
    import torch

    if peer == "datasets":
        import datasets

        rows = datasets.load_from_disk(str(folder / "rows")).with_format("torch")
        while True:
            order = torch.randperm(SAMPLES).tolist()
            yield (rows[order[i : i + BATCH]]["x"] for i in range(0, SAMPLES, BATCH))
    if peer == "webdataset":
        import webdataset

        shards = sorted(str(path) for path in folder.glob("*.tar"))
        rows = webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        rows = rows.shuffle(1000).decode().to_tuple("x.npy")
        loaded = webdataset.WebLoader(rows, batch_size=BATCH, num_workers=0)
        while True:
            yield (batch[0] for batch in loaded)
    import streaming

    rows = streaming.StreamingDataset(
        local=str(folder / "rows"), shuffle=True, batch_size=BATCH
    )
    loaded = torch.utils.data.DataLoader(rows, batch_size=BATCH)
    while True:
        yield (batch["x"] for batch in loaded)


def main():
    peer = sys.argv[2]
    folder = Path(sys.argv[1]) / peer
    prepare(folder, peer)
    best = 0.0
    epochs = batches(folder, peer)
    for _ in range(3):
        seen, begun = 0, time.monotonic()
        for batch in next(epochs):
            seen += batch.numel() * batch.element_size()
        best = max(best, seen / (time.monotonic() - begun) / 1e9)
    print(json.dumps({"gb_per_s": best}))


if __name__ == "__main__":
    main()
