//! The machine's python3: the torch it may have, and the pip that fetches one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps;

/// What python3 says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Python {
    /// Major and minor version.
    pub(crate) version: (u32, u32),
    /// The folder of its package `torch`, where it has one.
    pub(crate) torch: Option<PathBuf>,
}

/// `find_spec` finds the package without importing it, which takes seconds.
const PROBE: &str = "\
import importlib.util, sys
print(sys.version_info.major, sys.version_info.minor)
try:
    spec = importlib.util.find_spec('torch')
except Exception:
    spec = None
print(next(iter(spec.submodule_search_locations or []), '') if spec else '')
";

/// CPython versions that torch has wheels for.
const WHEELS: std::ops::RangeInclusive<(u32, u32)> = (3, 10)..=(3, 14);

/// The python3 of this machine, or none where there is none.
pub(crate) fn probe() -> Option<Python> {
    let output = Command::new("python3").args(["-c", PROBE]).output().ok()?;
    match output.status.success() {
        true => parse(&String::from_utf8_lossy(&output.stdout)),
        false => None,
    }
}

/// Reads what [`PROBE`] prints.
fn parse(text: &str) -> Option<Python> {
    let mut lines = text.lines();
    let (major, minor) = lines.next()?.split_once(' ')?;
    let version = (major.parse().ok()?, minor.trim().parse().ok()?);
    let torch = lines
        .next()
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    Some(Python { version, torch })
}

/// Installs `requirements` into the folder `target` by pip.
///
/// # Errors
/// When there is no python3 or it has no pip, or when pip fails; the text says
/// what to do.
pub(crate) fn pip_install(target: &Path, requirements: &[&str], dependencies: bool) -> Result<()> {
    let Some(python) = probe() else {
        bail!("there is no `python3` here to fetch libtorch with");
    };
    let has_pip = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_pip {
        bail!(
            "python3 has no pip to fetch libtorch with: install it \
             (Debian and Ubuntu: `apt install python3-pip`; Fedora: `dnf install python3-pip`; \
             others: `python3 -m ensurepip --user`)"
        );
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--no-input", "--no-compile"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(target);
    // Only the libraries matter, not the bindings: a python3 that torch has no
    // wheel for fetches those of another version.
    if !WHEELS.contains(&python.version) {
        pip.args(["--implementation", "cp", "--python-version", "3.12"]);
    }
    if !dependencies {
        pip.arg("--no-deps");
    }
    pip.args(requirements)
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        // Either setting of a user's pip.conf contradicts --target.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0");
    steps::run(&mut pip).context("libtorch could not be fetched")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_python_are_read() {
        let with = |torch: Option<&str>| Python {
            version: (3, 11),
            torch: torch.map(PathBuf::from),
        };
        for (text, expected) in [
            ("3 11\n\n", Some(with(None))),
            ("3 11", Some(with(None))),
            ("3 11\n/opt/py/torch\n", Some(with(Some("/opt/py/torch")))),
            ("", None),
            ("three eleven\n", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
