"""Stereo WAV files at 44.1 kHz: chords of decaying partials, and a little noise.

usage: music.py FOLDER MINUTES FILES
"""

import sys
import wave
from pathlib import Path

import numpy as np

RATE = 44_100


def piece(number, seconds):
    draw = np.random.default_rng(number)
    sound = np.zeros((seconds * RATE, 2), np.float32)
    length = 2 * RATE
    time = np.arange(length, dtype=np.float32) / RATE
    for beat in range(seconds * 2 - 4):
        note = np.zeros(length, np.float32)
        for pitch in draw.choice(np.arange(40, 84), 3, replace=False):
            base = 440 * 2 ** ((pitch - 69) / 12)
            for partial in range(1, 9):
                decay = np.exp(-time * partial * 1.5) / partial
                note += decay * np.sin(2 * np.pi * base * partial * time)
        pan, at = draw.uniform(0.3, 0.7), beat * RATE // 2
        sound[at : at + length, 0] += note * pan
        sound[at : at + length, 1] += note * (1 - pan)
    sound += draw.normal(0, 1e-3, sound.shape).astype(np.float32)
    return sound * (0.8 / np.abs(sound).max())


def main():
    folder, minutes, files = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        with wave.open(str(folder / f"{number:02d}.wav"), "wb") as out:
            out.setparams((2, 2, RATE, 0, "NONE", ""))
            sound = piece(number, minutes * 60 // files)
            out.writeframes((sound * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
