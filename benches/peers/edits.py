#!/usr/bin/env python3
"""Sixteen edits that try to look like none, and whether each engine's next run sees them.

edits.py [TOOL ...] [--out FILE] [--pipeline PATH] [--work DIR]

Every tool has a stage over the same 16 files; after each edit it runs as its user would call it. An
edit is *seen* if what then comes out is made of the new bytes, *missed* if of the old ones. After a
touch there is nothing to be done.
"""

import argparse
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measure import DVC, PEERS, ROOT, SNAKEMAKE, XVC, Ours, between_marks, script, write_small

# How long a file rests before it is edited: longer than any tick of a clock.
SETTLE = 2.1


def keeping_time(path, edit):
    before = path.stat()
    edit()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write(path, new):
    with open(path, "r+b") as file:
        file.write(new)


def same_time(path, other):
    taken = path.stat()
    os.utime(other, ns=(taken.st_atime_ns, taken.st_mtime_ns))


def other_size(path, new):
    path.write_bytes(new + new[-200:])


def back(path, new):
    keeping_time(path, lambda: write(path, new))


def renamed_over(path, new):
    other = path.with_suffix(".new")
    other.write_bytes(new)
    same_time(path, other)
    other.rename(path)


def clock_back(path, new):
    write(path, new)
    os.utime(path, (1, 1))


def hard_link(path, new):
    keeping_time(path, lambda: write(outside(path, "link"), new))


def inode(path, new):
    before = path.stat()
    path.unlink()
    path.write_bytes(new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def case(path, new):
    back(path, new)
    path.rename(path.with_name(path.name.upper().replace("WAV", "wav")))


def symbolic(path, new):
    other = outside(path, "target")
    other.write_bytes(new)
    same_time(path, other)
    path.unlink()
    path.symlink_to(other)


def swapped(path, new):
    other = outside(path, "other")
    other.write_bytes(new)
    same_time(path, other)
    aside = outside(path, "aside")
    path.rename(aside)
    other.rename(path)


def cut(path, new):
    keeping_time(path, lambda: path.write_bytes(new))


def folder(path, new):
    before = path.stat()
    path.parent.rename(outside(path, "folder"))
    path.parent.mkdir()
    path.write_bytes(new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def mapped(path, new):
    def edit():
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[:] = new
            view.flush()

    keeping_time(path, edit)


def touched(path, _):
    os.utime(path)


def outside(path, name):
    """A place on the same disk that is in no corpus."""
    return path.parents[2] / f"{path.stem}.{name}"


EDITS = [
    ("another size", other_size),
    ("same size, time put back", back),
    ("within the tick of the last run", back),
    ("renamed over, size and time as before", renamed_over),
    ("time of the future, as before", back),
    ("clock set back", clock_back),
    ("through another hard link", hard_link),
    ("a new file, often with its inode", inode),
    ("renamed in case only, and edited", case),
    ("link to another target", symbolic),
    ("times in ticks of two seconds", back),
    ("swapped with a file like it", swapped),
    ("cut and written anew", cut),
    ("its folder replaced", folder),
    ("through a memory map, time put back", mapped),
    ("touched only", touched),
]


def name_of(number):
    return f"f{number:02d}/kind{number:02d}.wav"


def corpus(base, future=True):
    """A file for each edit, and what some edits need beside theirs; one is of the `future`."""
    shutil.rmtree(base, ignore_errors=True)
    for number, (name, edit) in enumerate(EDITS):
        path = base / "data" / name_of(number)
        path.parent.mkdir(parents=True)
        write_small(path)
        if name.startswith("time of the future") and future:
            os.utime(path, (time.time() + 5000,) * 2)
        if name.startswith("times in ticks"):
            os.utime(path, (1_700_000_000,) * 2)
        if edit is hard_link:
            os.link(path, outside(path, "link"))


def run(command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


class Peer:
    """An engine whose stage writes all files, one after another, into `out`, and a line into `runs`."""

    STAGE = "find data -name '*.wav' | LC_ALL=C sort | xargs cat > out && echo >> runs"

    def __init__(self, base, prepare, command, future=True):
        self.base, self.command, self.future = base, command, future
        corpus(base, future)
        for line in [["git", "init", "-q", "."], *prepare]:
            code, said = run(line, base)
            if code != 0:
                sys.exit(f"{line} in {base} gave {code}:\n{said}")
        self.step()

    def step(self):
        code, said = run(self.command, self.base)
        return said.strip().splitlines()[-1:] if code != 0 else None

    def count(self):
        return len((self.base / "runs").read_text().splitlines())

    def right(self, _):
        files = sorted((self.base / "data").rglob("*.wav"), key=lambda path: str(path).encode())
        return (self.base / "out").read_bytes() == b"".join(path.read_bytes() for path in files)


class Pipeline:
    """The stage `decode`; what it gives is compared with what a new cache gives."""

    def __init__(self, options, base):
        self.base, self.future = base, True
        corpus(base)
        self.ours = Ours(options, base, decode__min_duration="0.0")
        self.executed = 0
        self.step()

    def step(self):
        command = [self.ours.program, "run", "decode", "--json"]
        done = subprocess.run(command, cwd=self.base, capture_output=True, text=True)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.executed += sum(e["event"] == "action" for e in events)
        return done.stderr.strip().splitlines()[-1:] if done.returncode != 0 else None

    def count(self):
        return self.executed

    def right(self, path):
        item = str(path.relative_to(self.base / "data"))
        given = []
        for cache in (".pipeline", "clean"):
            shutil.rmtree(self.base / "clean", ignore_errors=True)
            shutil.rmtree(self.base / "given", ignore_errors=True)
            call = [self.ours.program, "--cache", cache]
            run([*call, "run", "decode", "--quiet"], self.base) if cache == "clean" else None
            run([*call, "export", "decode", item, "--out", "given"], self.base)
            given.append(read_all(self.base / "given"))
        return given[0] == given[1] != {}


def read_all(path):
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def dvc(base):
    stage = [DVC, "stage", "add", "-q", "-n", "one", "-d", "data", "-o", "out", Peer.STAGE]
    quiet = [DVC, "config", "core.analytics", "false"]
    return Peer(base, [[DVC, "init", "-q"], quiet, stage], [DVC, "repro", "-q"])


def xvc(base):
    step = [*XVC, "pipeline", "step"]
    base.parent.mkdir(parents=True, exist_ok=True)
    script(base.with_suffix(".sh"), Peer.STAGE)
    prepare = [
        [*XVC, "init"],
        [*step, "new", "--step-name", "one", "--command", f"../{base.name}.sh"],
        [*step, "dependency", "--step-name", "one", "--glob", "data/*/*"],
        [*step, "output", "--step-name", "one", "--output-file", "out"],
    ]
    return Peer(base, prepare, [*XVC, "pipeline", "run"])


def snakemake(base):
    text = (
        "from glob import glob\n"
        "rule one:\n    input: sorted(glob('data/**/*.wav', recursive=True))\n"
        f'    output: "out"\n    shell: """{Peer.STAGE}"""\n'
    )
    base.parent.mkdir(parents=True, exist_ok=True)
    file = base.with_suffix(".snakefile")
    file.write_text(text)
    command = [SNAKEMAKE, "--quiet", "all", "--cores", "1", "-s", file, "-d", base]
    # One file of the future, and no run succeeds.
    return Peer(base, [], command, future=False)


def judge(tool, number):
    name, edit = EDITS[number]
    if name.startswith("time of the future") and not tool.future:
        return "refused"
    path = tool.base / "data" / name_of(number)
    # What differs is in the last bytes: samples, never the header.
    new = path.read_bytes()[:-512] + os.urandom(512)
    if name.startswith("within"):
        tool.step()
    else:
        time.sleep(SETTLE)
    before = tool.count()
    edit(path, new)
    failed = tool.step()
    if failed is not None:
        return f"failed: {' '.join(failed)[:60]}"
    if edit is touched:
        return "nothing run" if tool.count() == before else "run again"
    if edit is case:
        path = path.with_name(path.name.upper().replace("WAV", "wav"))
    return "seen" if tool.right(path) else "**missed**"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tools", nargs="*")
    parser.add_argument("--out", type=Path, help="replace the table between the marks in this file")
    parser.add_argument("--pipeline", type=Path, default=ROOT / "target/release/pipeline")
    parser.add_argument("--work", type=Path, default=PEERS / "work" / "edits")
    options = parser.parse_args()
    options.pipeline = options.pipeline.resolve()
    base = options.work.resolve()
    makers = {"pipeline": lambda folder: Pipeline(options, folder), "dvc": dvc}
    makers |= {"xvc": xvc, "snakemake": snakemake}
    names = options.tools or list(makers)
    columns = []
    for name in names:
        tool = makers[name](base / name)
        column = [judge(tool, number) for number in range(len(EDITS))]
        columns.append(column)
        print(f"{name}: {', '.join(column)}", flush=True)
    lines = ["| edit | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for number, (edit, _) in enumerate(EDITS):
        lines.append(f"| {edit} | " + " | ".join(column[number] for column in columns) + " |")
    between_marks(options.out, "edits", lines)


if __name__ == "__main__":
    main()
