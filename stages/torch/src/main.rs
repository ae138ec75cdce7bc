//! `pipeline-torch`: what `pipeline` starts for the stages that need libtorch.
//!
//! Without arguments it serves jobs on standard input (see [`stage_core::worker`]) until that
//! closes. `pipeline-torch doctor` prints what devices there are, as JSON.

use std::io::{self, BufReader, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let argument = std::env::args_os().nth(1);
    let result = match argument.as_ref().map(|text| text.to_str()) {
        None => {
            pipeline_torch::start();
            stage_core::worker::serve(
                &pipeline_torch::jobs::registry(),
                &pipeline_torch::jobs::class(),
                BufReader::new(io::stdin()),
                io::stdout(),
            )
        }
        Some(Some("doctor")) => serde_json::to_string(&pipeline_torch::device::report())
            .map_err(io::Error::from)
            .and_then(|report| writeln!(io::stdout(), "{report}")),
        Some(_) => {
            let help =
                "pipeline-torch is started by `pipeline`; `pipeline-torch doctor` shows devices";
            let _ = writeln!(io::stderr(), "{help}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The engine repeats it, unless it is gone.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
