//! `pipeline worker`: reads foreign bytes for the engine, under a limit of memory.

use std::io::{self, BufReader, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stage_core::{KindEntry, Registry};

use crate::cli::convert::Transcode;
use crate::cli::inspect::Look;

/// The limit of the address space of a process that reads foreign bytes, in bytes.
pub(crate) const MEMORY: u64 = 2 << 30;

/// Serves jobs on standard input until it closes. `memory` bounds the address space, in bytes.
pub(crate) fn serve(memory: u64) -> ExitCode {
    limit_memory(memory);
    let registry = registry();
    let class = stage_core::machine_class();
    let input = BufReader::new(io::stdin());
    match stage_core::worker::serve(&registry, &class, input, io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The engine repeats it, unless it is gone.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// The kinds that a worker serves: those of pipeline.toml, and what the commands that read one
/// foreign file do.
fn registry() -> Registry {
    let kinds = crate::stages::registry();
    let commands = [KindEntry::of::<Look>(), KindEntry::of::<Transcode>()];
    Registry::new(kinds.iter().copied().chain(commands))
}

/// Bounds the address space of this process, so that an absurd allocation fails instead of
/// pushing the machine into swap.
fn limit_memory(memory: u64) {
    let old = getrlimit(Resource::As);
    let maximum = old.maximum.map_or(memory, |maximum| maximum.min(memory));
    let limit = Rlimit {
        current: Some(maximum),
        maximum: Some(maximum),
    };
    // macOS refuses limits of the address space; the deadline still holds there.
    let _ = setrlimit(Resource::As, limit);
}
