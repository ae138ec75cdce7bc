#!/usr/bin/env python3
"""Measures `pipeline` beside its peers; see README.md.

measure.py [FIGURE ...] [--out FILE] [--rounds N] [--pipeline PATH] [--work DIR] [--list]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = ROOT / "target" / "peers"
DVC = PEERS / "dvc" / "bin" / "dvc"
NINJA = PEERS / "dvc" / "bin" / "ninja"
SNAKEMAKE = PEERS / "snakemake" / "bin" / "snakemake"
DATA = PEERS / "data" / "bin" / "python"
XVC = [PEERS / "xvc" / "bin" / "python", HERE / "xvc_cli.py"]


@dataclass
class Row:
    """One comparison of the table."""

    figure: str
    ours: str
    peer: str
    theirs: str
    ratio: float
    goal: str


FIGURES = {}

# Runs a command and prints the largest resident set of it and its children. A process begins with
# that of the one that started it, so this one has to be small.
PEAK = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def figure(name):
    def keep(function):
        FIGURES[name] = function
        return function

    return keep


def start():
    """Starts the clock when the disk has what earlier commands wrote, for which this one is not to pay."""
    os.sync()
    return time.monotonic()


def call(command, cwd, env=None):
    """Runs to the end; fails loudly. Gives the seconds that it took."""
    begun = start()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        process.wait()
        seconds = time.monotonic() - begun
        if process.returncode != 0:
            said.seek(0)
            tail = said.read()[-2000:].decode(errors="replace")
            sys.exit(f"{command} in {cwd} gave {process.returncode}:\n{tail}")
    return seconds


def peak(command, cwd):
    """The largest resident set of a command in MB."""
    words = [sys.executable, "-I", "-S", "-c", PEAK, *(str(part) for part in command)]
    said = subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True).stdout
    return int(said) / (1024 if platform.system() == "Linux" else 1024 * 1024)


def paired(rounds, *commands):
    """Each command in turn, `rounds` times: lists of what they took."""
    lists = [[] for _ in commands]
    for _ in range(rounds):
        for taken, command in zip(lists, commands):
            taken.append(command())
    return lists


def ratio_of(mine, theirs):
    """Median over the rounds of ours / theirs."""
    return statistics.median(a / b for a, b in zip(mine, theirs))


def shown(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def set_aside(options, path):
    """Moves what is there out of the way. To remove thousands of files would be felt in what comes
    next: ext4 without a journal passes over the inodes that were freed in the last minutes."""
    if path.exists():
        aside = options.work / "aside"
        aside.mkdir(exist_ok=True)
        path.rename(aside / f"{path.name}-{time.time_ns()}")


# Corpora


def small_files(folder, count):
    """`count` different WAV files of 4 KiB."""
    data = folder / "data"
    if len(list(data.glob("*.wav"))) == count:
        return
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    for i in range(count):
        write_small(data / f"f{i:06d}.wav")


def write_small(path):
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 22_050, 0, "NONE", ""))
        out.writeframes(os.urandom(4096 - 44))


def music(folder, minutes, files):
    """Stereo WAV at 44.1 kHz; see music.py."""
    if len(list(folder.glob("*.wav"))) == files:
        return
    call([DATA, HERE / "music.py", folder, str(minutes), str(files)], HERE)


# Projects of two stages over `folder/data`


class Ours:
    def __init__(self, options, folder, corpus="data", **params):
        self.program, self.folder, self.corpus = options.pipeline, folder, corpus
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "pipeline.toml"
        file.unlink(missing_ok=True)
        call([self.program, "init", ".", "--corpus", corpus], folder)
        text = file.read_text()
        for key, value in params.items():
            stage, key = key.split("__")
            text = text.replace(f"[stages.{stage}]\n", f"[stages.{stage}]\n{key} = {value}\n")
        file.write_text(text)

    def run(self, stage, *more, env=None):
        return call([self.program, "run", stage, "--quiet", *more], self.folder, env)

    def events(self, stage, *more):
        command = [self.program, "run", stage, "--json", *more]
        begun = start()
        out = subprocess.run(command, cwd=self.folder, check=True, capture_output=True).stdout
        return time.monotonic() - begun, [json.loads(line) for line in out.splitlines()]


# Magnitude and phase as featurize.py stores them.
AS_PEERS = {
    "featurize__dtype": '"f32"',
    "featurize__magnitude": '"linear"',
    "featurize__phase": "true",
}


def of_music(options, name, minutes=48, **params):
    """A project over minutes of music, three a file."""
    corpus = options.work / f"music-{minutes}"
    music(corpus, minutes, minutes // 3)
    return Ours(options, options.work / name, corpus=corpus, **params)


def dvc_project(folder):
    if not (folder / ".dvc").exists():
        call(["git", "init", "-q", "."], folder)
        call([DVC, "init", "-q"], folder)
        call([DVC, "config", "core.analytics", "false"], folder)
        one = ["stage", "add", "-q", "-n", "one", "-d", "data", "-o", "one.txt"]
        call([DVC, *one, "ls data > one.txt"], folder)
        two = ["stage", "add", "-q", "-n", "two", "-d", "one.txt", "-o", "two.txt"]
        call([DVC, *two, "wc -l < one.txt > two.txt"], folder)
        call([DVC, "repro", "-q"], folder)
    return [DVC, "repro", "-q"]


def xvc_project(folder):
    if not (folder / ".xvc").exists():
        step = [*XVC, "pipeline", "step"]
        one = script(folder / "one.sh", "ls data > one.txt")
        two = script(folder / "two.sh", "wc -l < one.txt > two.txt")
        call(["git", "init", "-q", "."], folder)
        call([*XVC, "init"], folder)
        call([*step, "new", "--step-name", "one", "--command", one], folder)
        call([*step, "dependency", "--step-name", "one", "--glob", "data/*"], folder)
        call([*step, "output", "--step-name", "one", "--output-file", "one.txt"], folder)
        call([*step, "new", "--step-name", "two", "--command", two], folder)
        call([*step, "dependency", "--step-name", "two", "--file", "one.txt"], folder)
        call([*step, "output", "--step-name", "two", "--output-file", "two.txt"], folder)
        call([*XVC, "pipeline", "run"], folder)
    return [*XVC, "pipeline", "run"]


def script(path, command):
    """Makes a program of a command, for those that cannot be given one with spaces."""
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return f"./{path.name}"


def ninja_project(folder):
    if not (folder / ".ninja_log").exists():
        names = sorted(path.name for path in (folder / "data").iterdir())
        lines = ["rule one", "  command = : > $out", "rule two", "  command = : > $out"]
        lines += [f"build one/{name}: one data/{name}" for name in names]
        lines += ["build two: two | " + " ".join(f"one/{name}" for name in names), ""]
        (folder / "build.ninja").write_text("\n".join(lines))
        call([NINJA], folder)
    return [NINJA]


def copies(options, name, count):
    """The same files in a folder for each tool, so that none walks over another's cache."""
    base = options.work / f"{name}-{count}"
    small_files(base / "origin", count)
    for tool in ("ours", "dvc", "xvc", "ninja"):
        if not (base / tool / "data").exists():
            (base / tool).mkdir(exist_ok=True)
            shutil.copytree(base / "origin" / "data", base / tool / "data")
    return base


def two_stages(options, base):
    ours = Ours(options, base / "ours", decode__min_duration="0.0")
    ours.run("featurize")
    ours.run("featurize")
    return ours


# Figures


def noop(options, count, peers, goals, *more):
    base = copies(options, "noop", count)
    ours = two_stages(options, base)
    command = [ours.program, "run", "featurize", "--quiet", *more]
    peers = {name: make(base / name) for name, make in peers.items()}
    calls = [lambda words=words, name=name: call(words, base / name) for name, words in peers.items()]
    mine, *theirs = paired(options.rounds, lambda: call(command, base / "ours"), *calls)
    label = f"no-op run, {count:,} files" + "".join(f", `{flag}`" for flag in more)
    about = f"{shown(statistics.median(mine))}, {peak(command, base / 'ours'):.0f} MB"
    for (name, words), taken in zip(peers.items(), theirs):
        other = f"{shown(statistics.median(taken))}, {peak(words, base / name):.0f} MB"
        yield Row(label, about, name, other, ratio_of(mine, taken), goals[name])


@figure("noop-10k")
def noop_10k(options):
    peers = {"dvc": dvc_project, "xvc": xvc_project, "ninja": ninja_project}
    yield from noop(options, 10_000, peers, {"dvc": "≤ 1/15", "xvc": "≤ 1/5", "ninja": "≤ 1.3"})


@figure("noop-100k")
def noop_100k(options):
    peers = {"dvc": dvc_project, "ninja": ninja_project}
    yield from noop(options, 100_000, peers, {"dvc": "≤ 1/20", "ninja": "≤ 1"})


@figure("noop-100k-cold")
def noop_100k_cold(options):
    """Without a warm page cache, which only root can empty."""
    drop = Path("/proc/sys/vm/drop_caches")
    if not os.access(drop, os.W_OK):
        print("noop-100k-cold is left out: only root may drop the page cache", file=sys.stderr)
        return
    base = copies(options, "noop", 100_000)
    ours = two_stages(options, base)
    ninja = ninja_project(base / "ninja")

    def cold(command):
        os.sync()
        drop.write_text("3")
        return command()

    mine, theirs = paired(
        options.rounds,
        lambda: cold(lambda: ours.run("featurize")),
        lambda: cold(lambda: call(ninja, base / "ninja")),
    )
    label, ratio = "no-op run, 100,000 files, cold", ratio_of(mine, theirs)
    yield Row(label, shown(statistics.median(mine)), "ninja", shown(statistics.median(theirs)), ratio, "≤ 1")


@figure("paranoid")
def paranoid(options):
    yield from noop(options, 10_000, {"dvc": dvc_project}, {"dvc": "≤ 1/8"}, "--paranoid")


@figure("added")
def added(options):
    """Time of a run after one file was added, less the seconds of that file's own actions."""
    base = copies(options, "added", 10_000)
    # What other builds left in the index is not to be measured.
    set_aside(options, base / "ours" / ".pipeline")
    ours, dvc = two_stages(options, base), dvc_project(base / "dvc")
    count = iter(range(10**6))

    def mine():
        write_small(base / "ours" / "data" / f"new{next(count)}-{time.time_ns()}.wav")
        seconds, events = ours.events("featurize")
        work = sum(e["seconds"] for e in events if e["event"] == "action")
        return seconds - work

    def theirs():
        write_small(base / "dvc" / "data" / f"new{next(count)}-{time.time_ns()}.wav")
        return call(dvc, base / "dvc")

    mine, theirs = paired(options.rounds, mine, theirs)
    ratio = ratio_of(mine, theirs)
    label = "one file added to 10,000, beyond its own work"
    yield Row(label, shown(statistics.median(mine)), "dvc", shown(statistics.median(theirs)), ratio, "≤ 1/50")


@figure("per-item")
def per_item(options):
    """Cold and durable, per tiny item: decoding 4 KiB beside a Snakemake job that does nothing."""
    many, jobs = 4000, 200
    base = options.work / "per-item"
    small_files(base, many)
    ours = Ours(options, base, decode__min_duration="0.0")
    snake = base / "snake"
    snake.mkdir(exist_ok=True)
    (snake / "Snakefile").write_text(
        f"rule all:\n    input: expand('out/{{i}}', i=range({jobs}))\n"
        "rule one:\n    output: 'out/{i}'\n    shell: ': > {output}'\n"
    )

    def mine():
        set_aside(options, base / ".pipeline")
        return ours.run("decode") / many

    def theirs():
        set_aside(options, snake / "out")
        set_aside(options, snake / ".snakemake")
        command = [SNAKEMAKE, "--quiet", "all", "--cores", str(os.cpu_count())]
        return call(command, snake) / jobs

    mine, theirs = paired(options.rounds, mine, theirs)
    micro = f"{statistics.median(mine) * 1e6:.0f} µs"
    other = f"{statistics.median(theirs) * 1e6:.0f} µs"
    yield Row("per tiny item, cold", micro, "snakemake", other, ratio_of(mine, theirs), "≤ 1/100")


@figure("featurize")
def featurize(options):
    alike, default = of_music(options, "alike", **AS_PEERS), of_music(options, "default")

    def fresh(project):
        shutil.rmtree(project.folder / ".pipeline", ignore_errors=True)
        return project.run("featurize")

    def peer(name):
        out = options.work / "peer-out"
        shutil.rmtree(out, ignore_errors=True)
        return call([DATA, HERE / "featurize.py", name, default.corpus, out, "22050", "1024", "256"], HERE)

    taken = paired(
        options.rounds,
        lambda: fresh(alike),
        lambda: fresh(default),
        lambda: peer("librosa"),
        lambda: peer("torch"),
    )
    as_peers, as_usual, *peers = taken
    for label, mine, goal in [
        ("48 minutes to spectra, f32 as the peers", as_peers, "≤ 1/2"),
        ("48 minutes to spectra, default storage", as_usual, "≤ 1/3"),
    ]:
        for name, theirs in zip(("librosa", "torch.stft"), peers):
            ratio = ratio_of(mine, theirs)
            yield Row(label, shown(statistics.median(mine)), name, shown(statistics.median(theirs)), ratio, goal)


@figure("threads")
def threads(options):
    """Of 96 minutes, so that the last files, at which one thread is alone, count for little."""
    project = of_music(options, "threads", 96)

    def jobs(count):
        # The program's own files: with copies that Python makes both runs take 0.1 s more.
        set_aside(options, project.folder / ".pipeline")
        project.run("decode")
        return project.run("featurize", "--jobs", str(count))

    one, two = paired(options.rounds, lambda: jobs(1), lambda: jobs(2))
    label, ratio = "featurize 96 minutes with `--jobs 1`", ratio_of(one, two)
    yield Row(label, shown(statistics.median(one)), "`--jobs 2`", shown(statistics.median(two)), ratio, "≥ 1.8")


@figure("kernels")
def kernels(options):
    """Default storage beside the bare kernels in memory: what is lost to all else."""
    program = options.pipeline.with_name("examples") / "kernels"
    if not program.exists():
        sys.exit("build it first: cargo build --release -p stage-featurize --example kernels")
    project = of_music(options, "default")
    bare = [program, project.corpus]

    def mine():
        shutil.rmtree(project.folder / ".pipeline", ignore_errors=True)
        return project.run("featurize")

    mine, theirs = paired(options.rounds, mine, lambda: call(bare, HERE))
    ratio = ratio_of(theirs, mine)
    label = "48 minutes to spectra, rate beside bare kernels"
    yield Row(label, shown(statistics.median(mine)), "kernels", shown(statistics.median(theirs)), ratio, "≥ 0.8")


@figure("loader")
def loader(options):
    ours = options.pipeline.with_name("examples") / "loader"
    if not ours.exists():
        sys.exit("build it first: cargo build --release -p pipeline-torch --example loader")

    def rate(command):
        return lambda: json.loads(subprocess.check_output([str(c) for c in command]))["gb_per_s"]

    commands = {"memcpy": rate([ours, "memcpy"])}
    for name in ("datasets", "webdataset", "mosaicml"):
        commands[name] = rate([DATA, HERE / "loaders.py", options.work / "samples", name])
    mine, *theirs = paired(options.rounds, rate([ours, "loader"]), *commands.values())
    goals = {"memcpy": "≥ 0.5", "datasets": "≥ 5", "webdataset": "≥ 8", "mosaicml": "≥ 8"}
    about = f"{statistics.median(mine):.2f} GB/s"
    for name, rates in zip(commands, theirs):
        ratio = statistics.median(a / b for a, b in zip(mine, rates))
        other = f"{statistics.median(rates):.2f} GB/s"
        yield Row("shuffled batches into a tensor", about, name, other, ratio, goals[name])


@figure("verify")
def verify(options):
    """Of the cache that 48 minutes of features fill, warm, beside bare BLAKE3 of its objects."""
    project = of_music(options, "alike", **AS_PEERS)
    project.run("featurize")
    objects = project.folder / ".pipeline" / "objects"
    size = sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
    bare = [DATA, HERE / "bare_blake3.py", objects]
    mine, theirs = paired(
        options.rounds,
        lambda: call([options.pipeline, "verify"], project.folder),
        lambda: float(subprocess.check_output([str(b) for b in bare])),
    )
    rates = [size / 1e9 / statistics.median(taken) for taken in (mine, theirs)]
    ratio = ratio_of(theirs, mine)
    label = f"verify of a warm cache of {size / 1e9:.1f} GB"
    yield Row(label, f"{rates[0]:.2f} GB/s", "blake3", f"{rates[1]:.2f} GB/s", ratio, "≥ 0.8")


@figure("durability")
def durability(options):
    """The same work with every fsync a no-op."""
    base = options.work / "per-item"
    small_files(base, 4000)
    ours = Ours(options, base, decode__min_duration="0.0")
    shim = options.work / "nosync.so"
    calls = ["fsync", "fdatasync", "syncfs"]
    source = "".join(f"int {name}(int fd) {{ (void)fd; return 0; }}\n" for name in calls)
    compiler = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(shim), "-"]
    subprocess.run(compiler, input=source, text=True, check=True)

    def cold(env):
        set_aside(options, base / ".pipeline")
        return ours.run("decode", env=env)

    durable, none = paired(
        options.rounds, lambda: cold({}), lambda: cold({"LD_PRELOAD": str(shim)})
    )
    label, ratio = "4,000 tiny items, durable", ratio_of(durable, none)
    yield Row(label, shown(statistics.median(durable)), "no fsync", shown(statistics.median(none)), ratio, "≤ 1.15")


def table(rows):
    yield "| figure | pipeline | peer | theirs | ratio | goal |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        small = row.ratio < 1 / 3
        ratio = f"1/{1 / row.ratio:.1f}" if small else f"{row.ratio:.2f}"
        yield f"| {row.figure} | {row.ours} | {row.peer} | {row.theirs} | {ratio} | {row.goal} |"


def between_marks(file, mark, lines):
    """Puts the lines between `<!-- mark -->` and `<!-- end of mark -->` in the file; prints them
    where there is none."""
    if file is None:
        print("\n".join(lines))
        return
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    head, _, rest = file.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    file.write_text("\n".join([head + begin, "", *lines, "", end + tail]))


def machine():
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figures", nargs="*")
    parser.add_argument("--out", type=Path, help="replace the table between the marks in this file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pipeline", type=Path, default=ROOT / "target/release/pipeline")
    parser.add_argument("--work", type=Path, default=PEERS / "work")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(FIGURES))
        return
    options.pipeline = options.pipeline.resolve()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.figures or FIGURES:
        if name not in FIGURES:
            sys.exit(f"there is no figure `{name}`; --list names them")
        for row in FIGURES[name](options):
            rows.append(row)
            print(list(table([row]))[-1], flush=True)
    shutil.rmtree(options.work / "aside", ignore_errors=True)
    lines = [f"{machine()}; medians of {options.rounds} rounds.", "", *table(rows)]
    if options.out:
        between_marks(options.out, "measured", lines)


if __name__ == "__main__":
    main()
