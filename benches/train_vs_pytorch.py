#!/usr/bin/env python3
"""Steps per second of `pipeline run train` beside the same model in PyTorch, in one run.

    python3 -m pip install torch
    python3 benches/train_vs_pytorch.py PROJECT [--rounds 3] [--steps 60] [--pipeline PATH]

PROJECT is a folder with a pipeline.toml of which `pipeline run dataset` has been run, with the
default model `residual-lstm`. In turn, `rounds` times: `steps` steps of `pipeline run train`, another
seed each time, and as many in PyTorch of the same layers, batch, chunk, optimiser, clipping and
threads. PyTorch's batches lie ready in memory; pipeline's come from its memory-mapped segments.
The steps of both begin to count after the first ones.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

BINS, HIDDEN, LAYERS, HISTORY, CHANNELS, DROPOUT = 513, 256, 2, 4, 8, 0.1
BATCH, CHUNK, THREADS, SKIPPED = 16, 64, 2, 5


class Residual(nn.Module):
    """As stages/torch/src/models/residual_lstm."""

    def __init__(self):
        super().__init__()
        self.input = nn.Linear(BINS, HIDDEN)
        self.layers = nn.ModuleList(
            nn.LSTM(HIDDEN, HIDDEN, batch_first=True) for _ in range(LAYERS)
        )
        self.change = nn.Linear(HIDDEN, BINS)
        self.local = nn.ModuleList(
            nn.Conv1d(i, o, 5, padding=2)
            for i, o in [(HISTORY, CHANNELS), (CHANNELS, CHANNELS), (CHANNELS, 1)]
        )

    def forward(self, x, past, state):
        streams, frames, bins = x.shape
        h = self.input(x)
        after = []
        for i, layer in enumerate(self.layers):
            y, s = layer(h, state[i] if state else None)
            after.append(tuple(t.detach() for t in s))
            h = F.dropout(y if i == 0 else y + h, DROPOUT)
        every = torch.cat([past, x], 1)
        planes = [x] + [
            every[:, HISTORY - 1 - back : HISTORY - 1 - back + frames] - x
            for back in range(1, HISTORY)
        ]
        c = torch.stack(planes, 2).view(streams * frames, HISTORY, bins)
        c = F.gelu(self.local[1](F.gelu(self.local[0](c))))
        c = self.local[2](c).view(streams, frames, bins)
        return x + self.change(h) + c, every[:, frames:].detach(), after


def pytorch(steps):
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    model = Residual()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    batches = [torch.randn(BATCH, CHUNK + 1, BINS) for _ in range(8)]
    past, state = torch.zeros(BATCH, HISTORY - 1, BINS), None
    for step in range(SKIPPED + steps):
        if step == SKIPPED:
            begun = time.monotonic()
        x = batches[step % len(batches)]
        mean, past, state = model(x[:, :-1], past, state)
        loss = F.mse_loss(mean, x[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return steps / (time.monotonic() - begun)


def ours(program, project, steps, seed):
    total = SKIPPED + steps
    sets = {
        "max_steps": total,
        "seed": seed,
        "save_every": 1_000_000,
        "threads": THREADS,
    }
    command = [program, "-C", project, "run", "train", "--json"]
    for key, value in sets.items():
        command += ["--set", f"train.{key}={value}"]
    seen = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        event = json.loads(line)
        values = event.get("values", {})
        if event["event"] == "metric" and "steps_per_second" in values:
            seen.append((time.monotonic(), event["step"]))
    if process.wait() != 0 or len(seen) < 2:
        raise SystemExit(f"`{' '.join(command)}` measured nothing: raise --steps")
    (begun, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pipeline", default="target/release/pipeline")
    options = parser.parse_args()
    seed = int(time.time())
    pairs = []
    for turn in range(options.rounds):
        mine = ours(options.pipeline, options.project, options.steps, seed + turn)
        theirs = pytorch(options.steps)
        pairs.append((mine, theirs))
        print(f"pipeline {mine:.2f} steps/s   PyTorch {theirs:.2f} steps/s")
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"median of the ratios: {ratio:.2f}")


if __name__ == "__main__":
    main()
