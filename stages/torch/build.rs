//! Tells the linker where the executable will find libtorch when it runs.
//!
//! `torch-sys` says where it found libtorch, but a dependency's build script can give link
//! arguments to nobody but itself, so the package that makes the executable has to repeat them
//! (tch-rs #980, #907). Two run paths are given: one relative to the executable, so that a
//! checkout can be moved with its `.libtorch` and `target`, and the absolute one.
//!
//! We do not link `libtorch.so` or `libtorch_cuda.so`: the former only pulls in the latter, which
//! costs 120 ms and 350 MB at start and fails where there is no driver. `libtorch_cuda.so` is
//! opened at run time when a CUDA device is asked for (see `src/device.rs`).

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return;
    };
    let macos = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos");
    let origin = if macos { "@loader_path" } else { "$ORIGIN" };
    // OUT_DIR is target/<profile>/build/<package>/out: executables lie three folders up, tests
    // and benches in `deps` beside them.
    if let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from)
        && let Some(profile) = out.ancestors().nth(3)
    {
        for folder in [profile.to_owned(), profile.join("deps")] {
            if let Some(path) = relative(&folder, &lib) {
                println!(
                    "cargo:rustc-link-arg=-Wl,-rpath,{origin}/{}",
                    path.display()
                );
            }
        }
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

/// The path that leads from the folder `from` to `to`, both absolute.
fn relative(from: &Path, to: &Path) -> Option<PathBuf> {
    if !from.is_absolute() || !to.is_absolute() {
        return None;
    }
    let shared = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    // Sharing no more than the root, the two are unlikely to be moved together.
    if shared < 2 {
        return None;
    }
    let up = from.components().skip(shared).map(|_| "..");
    Some(
        up.map(Path::new)
            .chain(
                to.components()
                    .skip(shared)
                    .map(|c| Path::new(c.as_os_str())),
            )
            .collect(),
    )
}
