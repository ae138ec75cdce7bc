//! Measures a loader over many tiny segments: time of each part, peak memory, mappings.
//!
//! `cargo run --release -p shard --example many_segments -- 100000`

#![expect(clippy::unwrap_used, reason = "a measurement may panic")]
#![expect(clippy::print_stdout, reason = "its output is a report")]

use std::fs::File;
use std::time::Instant;

use shard::{
    Layout, Loader, LoaderOptions, Manifest, ManifestBuilder, Metadata, Parts, Remainder, RowType,
    Sampling, Segment, SegmentId, SegmentWriter, Split,
};

fn main() {
    let count: u64 = std::env::args()
        .nth(1)
        .map_or(100_000, |n| n.parse().expect("a number of segments"));
    let dir = tempfile::tempdir().unwrap();
    // Segments lie in 256 folders, as in a store of objects.
    let root = dir.path().to_owned();
    let path_of = move |id: &SegmentId| {
        root.join(format!("{:02x}", id.0[7]))
            .join(format!("{id}.bin"))
    };
    for i in 0..256 {
        std::fs::create_dir(dir.path().join(format!("{i:02x}"))).unwrap();
    }
    let id = |i: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        SegmentId(bytes)
    };
    let began = Instant::now();
    let rows = 17u64;
    for i in 0..count {
        let layout = Layout::new(RowType::F16, [("magnitude", 32)]).unwrap();
        let file = File::create(path_of(&id(i))).unwrap();
        let file = std::io::BufWriter::new(file);
        let mut writer = SegmentWriter::new(file, layout, Metadata::new()).unwrap();
        writer
            .push_f32(&vec![(i % 1000) as f32; 32 * rows as usize])
            .unwrap();
        writer.finish().unwrap();
    }
    report("written", count, began);

    let began = Instant::now();
    let mut builder = ManifestBuilder::new();
    for i in 0..count {
        let segment = Segment::open(path_of(&id(i))).unwrap();
        builder
            .add(id(i), &segment, &Parts::from([(Split::Train, 0..rows)]))
            .unwrap();
    }
    let json = builder.finish("share").unwrap().to_json().unwrap();
    report("manifest made", count, began);

    let began = Instant::now();
    let manifest = Manifest::from_json(&json, "manifest").unwrap();
    println!("manifest of {:.1} MB", json.len() as f64 / 1e6);
    report("manifest read", count, began);

    for (name, sampling) in [
        (
            "chunks",
            Sampling::Chunks {
                remainder: Remainder::Drop,
            },
        ),
        ("windows", Sampling::Windows { stride: 8 }),
    ] {
        let options = LoaderOptions::new(Split::Train, 64, 8, sampling);
        let loader = Loader::with_paths(&manifest, path_of.clone(), &options).unwrap();
        for epoch in 0..2 {
            let began = Instant::now();
            let mut stream = loader.epoch(epoch).unwrap();
            let batches = stream
                .by_ref()
                .map(|batch| batch.unwrap().lengths().len())
                .sum::<usize>();
            // The loader is still there, and what it keeps open.
            report(
                &format!("{name}, epoch {epoch}: {batches} places"),
                count,
                began,
            );
        }
    }
}

fn report(what: &str, count: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let each = seconds / count as f64 * 1e6;
    println!(
        "{what}: {seconds:.2} s, {each:.1} µs per segment, peak {} MB, {} mappings",
        peak() / 1000,
        mappings()
    );
}

/// Mappings of this process, its libraries and heaps included; 0 where /proc has
/// none.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().count()
}

/// Peak memory of this process in kB, mapped files included; 0 where /proc has
/// none.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
