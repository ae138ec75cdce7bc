//! Finds or fetches libtorch.
//!
//! `.libtorch/torch` is a symbolic link to a libtorch of the one version that
//! the `tch` crate can use, and `.cargo/config.toml` names that link, so that
//! plain cargo commands and editors need no environment variable. It leads, in
//! this order, to
//!
//! 1. the folder that the environment variable `LIBTORCH` names;
//! 2. the package of a python3 that has this version of torch;
//! 3. `.libtorch/<version>-<flavour>/torch`, filled by pip.
//!
//! pip's `--target` layout is kept: the run path of torch's libraries leads to
//! those of CUDA through `../../nvidia`. The wheels of PyPI for Linux are built
//! for CUDA, and even `libtorch_cpu.so` needs its runtime and its profiling
//! interface; the other 4 GB are fetched only where an NVIDIA GPU is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::python;

/// The version that the `tch` crate in Cargo.toml is made for.
const VERSION: &str = "2.11.0";

/// What torch's CPU library needs of CUDA, in the versions that this torch was
/// built against.
const CUDA_MINIMUM: [&str; 2] = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"];

const WAYS_OUT: &str = "\
Otherwise, either of these will do:
  - unpack a libtorch 2.11.0 from https://pytorch.org and name its folder in LIBTORCH;
  - leave out what needs it: `cargo xtask test --no-torch`";

/// Sees to it that `.libtorch/torch`, or the user's `LIBTORCH`, is there. A
/// second call finds it so at once.
///
/// # Errors
/// When the user's `LIBTORCH` cannot be used, or pip is needed and fails.
pub(crate) fn set_up(root: &Path) -> Result<()> {
    has_compiler()?;
    let home = root.join(".libtorch");
    let link = home.join("torch");
    if let Some(chosen) = chosen_by_user(root) {
        check(&chosen).context("LIBTORCH cannot be used")?;
        println!("    libtorch {VERSION}: {} (LIBTORCH)", chosen.display());
        // For editors and later shells, which do not know the variable.
        if check(&link).is_err() {
            fs::create_dir_all(&home)?;
            point(&link, &fs::canonicalize(&chosen)?)?;
        }
        return Ok(());
    }
    if is_ready(&link) {
        return report(&link);
    }

    fs::create_dir_all(&home).with_context(|| format!("cannot make `{}`", home.display()))?;
    let lock = File::create(home.join("lock"))?;
    // The kernel lets go when the process ends, however it ends.
    lock.lock()
        .context("cannot lock `.libtorch/lock` against a second set-up")?;
    if !is_ready(&link) {
        match torch_of_python() {
            Some(folder) => point(&link, &folder)?,
            None => {
                let folder = fetch(&home).context(WAYS_OUT)?;
                point(&link, &folder)?;
            }
        }
    }
    report(&link)
}

/// The libtorch that the user names by `LIBTORCH`, or none where the variable
/// is unset, empty, or merely what `.cargo/config.toml` sets.
pub(crate) fn chosen_by_user(root: &Path) -> Option<PathBuf> {
    std::env::var_os("LIBTORCH")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .filter(|folder| *folder != root.join(".libtorch/torch"))
}

/// Checks that `folder` holds libraries and headers of the right version.
fn check(folder: &Path) -> Result<()> {
    let suffix = std::env::consts::DLL_SUFFIX;
    for part in [
        format!("lib/libtorch_cpu{suffix}"),
        "include/torch/csrc/api/include/torch/torch.h".to_owned(),
    ] {
        if !folder.join(&part).is_file() {
            bail!("`{}` holds no `{part}`", folder.display());
        }
    }
    let Some(found) = version(folder) else {
        bail!("the version of `{}` cannot be told", folder.display());
    };
    // "2.11.0+cu130": what follows the plus is the platform it was built for.
    let number = found.split('+').next().unwrap_or_default();
    if number != VERSION {
        bail!(
            "`{}` is version {number}, expected {VERSION}",
            folder.display()
        );
    }
    Ok(())
}

/// The version of a libtorch: its archive says it in `build-version`, the
/// Python package in `version.py`.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    line.split(['\'', '"']).nth(1).map(str::to_owned)
}

/// Whether `link` leads to a libtorch that suits this machine: one fetched
/// before the NVIDIA GPU came lacks the libraries to use it.
fn is_ready(link: &Path) -> bool {
    check(link).is_ok()
        && !(Flavour::of_this_machine() == Flavour::Cuda
            && fs::read_link(link).is_ok_and(|target| target == Flavour::Cpu.folder()))
}

/// The folder of a torch of the right version that python3 has.
fn torch_of_python() -> Option<PathBuf> {
    let folder = python::probe()?.torch?;
    match check(&folder) {
        Ok(()) => Some(folder),
        Err(reason) => {
            println!("    the torch of python3 is passed over: {reason}");
            None
        }
    }
}

/// What is fetched by pip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    /// For the CPU alone, or, on macOS, for its GPU as well.
    Cpu,
    /// With all the libraries of CUDA.
    Cuda,
}

impl Flavour {
    fn of_this_machine() -> Self {
        match has_nvidia_gpu() {
            true => Self::Cuda,
            false => Self::Cpu,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// Where the torch of this flavour lies, seen from `.libtorch/`.
    fn folder(self) -> PathBuf {
        PathBuf::from(format!("{VERSION}-{}", self.name())).join("torch")
    }
}

/// Fetches libtorch by pip; the answer is relative to `home`.
///
/// It is installed beside its place and renamed, so that a set-up which is
/// broken off leaves nothing that looks finished.
fn fetch(home: &Path) -> Result<PathBuf> {
    let flavour = Flavour::of_this_machine();
    let scratch = home.join("tmp");
    remove(&scratch)?;
    let torch = format!("torch=={VERSION}");
    let mut requirements = vec![torch.as_str()];
    if flavour == Flavour::Cpu && cfg!(target_os = "linux") {
        requirements.extend(CUDA_MINIMUM);
    }
    println!("    fetching libtorch {VERSION} ({})", flavour.name());
    python::pip_install(&scratch, &requirements, flavour == Flavour::Cuda)?;
    check(&scratch.join("torch")).context("pip fetched something else")?;
    let place = home.join(format!("{VERSION}-{}", flavour.name()));
    remove(&place)?;
    fs::rename(&scratch, &place)
        .with_context(|| format!("cannot move libtorch to `{}`", place.display()))?;
    Ok(flavour.folder())
}

/// Removes a folder and all in it, where it is there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Makes `link` lead to `target`, in one step, whatever was there.
fn point(link: &Path, target: &Path) -> Result<()> {
    if fs::symlink_metadata(link).is_ok_and(|found| found.is_dir()) {
        remove(link)?;
    }
    let fresh = link.with_extension("new");
    let _ = fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh)
        .and_then(|()| fs::rename(&fresh, link))
        .with_context(|| format!("cannot link `{}`", link.display()))
}

fn report(link: &Path) -> Result<()> {
    check(link)?;
    let target = fs::canonicalize(link)?;
    println!("    libtorch {VERSION}: {}", target.display());
    Ok(())
}

/// Whether an NVIDIA GPU and its driver are here.
fn has_nvidia_gpu() -> bool {
    let listed = || {
        let output = Command::new("nvidia-smi").arg("-L").output().ok()?;
        let names = String::from_utf8_lossy(&output.stdout).contains("GPU ");
        (output.status.success() && names).then_some(())
    };
    cfg!(target_os = "linux") && (Path::new("/dev/nvidia0").exists() || listed().is_some())
}

/// Checks for a C++ compiler here, where the error can say what to do: deep in
/// a build script it cannot.
fn has_compiler() -> Result<()> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    // CXX may hold flags, or a launcher before the compiler.
    let mut words = compiler.split_whitespace();
    let works = words.next().is_some_and(|program| {
        Command::new(program)
            .args(words)
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
    });
    if !works {
        bail!(
            "there is no C++ compiler (`{compiler} --version` failed): install one \
             (Debian and Ubuntu: `apt install g++`; Fedora: `dnf install gcc-c++`; \
             macOS: `xcode-select --install`)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a libtorch of `version`, removed when dropped.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str, file: &str, text: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            let header = folder.join("include/torch/csrc/api/include/torch");
            fs::create_dir_all(&header).unwrap();
            fs::create_dir_all(folder.join("lib")).unwrap();
            fs::write(header.join("torch.h"), "").unwrap();
            let library = format!("lib/libtorch_cpu{}", std::env::consts::DLL_SUFFIX);
            fs::write(folder.join(library), "").unwrap();
            fs::write(folder.join(file), text).unwrap();
            Self(folder)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_version_decides() {
        for (name, file, text, expected) in [
            ("lt-zip", "build-version", "2.11.0+cpu\n", Ok(())),
            (
                "lt-py",
                "version.py",
                "__version__ = '2.11.0+cu130'\n",
                Ok(()),
            ),
            ("lt-old", "build-version", "2.10.0", Err("expected 2.11.0")),
            (
                "lt-long",
                "build-version",
                "2.11.01",
                Err("expected 2.11.0"),
            ),
            ("lt-odd", "version.py", "version = 1", Err("cannot be told")),
        ] {
            let fake = Fake::new(name, file, text);
            match (check(&fake.0), expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_folder_without_libraries_is_refused() {
        let error = check(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(error.to_string().contains("holds no `lib/libtorch_cpu"));
    }

    #[test]
    fn a_link_is_replaced_in_one_step() {
        let fake = Fake::new("lt-link", "build-version", VERSION);
        let link = fake.0.join("torch");
        for target in ["first", "second"] {
            point(&link, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
    }
}
