//! The one place of this package that is `unsafe`: opening a shared library for all to see,
//! catching signals, and setting up the allocator.
//!
//! libtorch registers the kernels of a device when the library that holds them is loaded; nothing
//! in it needs to be called by name. See [`crate::device`] for when and why.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

/// Loads the shared library `name` with its symbols visible to all others, for as long as the
/// process lives.
///
/// `name` without a slash is looked for on the run path of the executable.
///
/// # Errors
/// The loader's own words: what is missing, or of the wrong version.
pub(crate) fn open_library(name: &str) -> Result<(), String> {
    let Ok(name) = CString::new(name) else {
        return Err("the name of the library has a NUL in it".to_owned());
    };
    // SAFETY: `name` is a valid NUL-terminated string. Loading runs the library's initialisers:
    // we load only libtorch's own, of the release that the executable was linked with. The handle
    // is dropped on purpose: the library must never be unloaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed `dlopen` on this thread, `dlerror` gives NULL or a NUL-terminated
    // string that stays valid until the next call of that family; we copy it at once.
    let reason = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "no reason given".to_owned()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Err(reason)
}

/// Calls `handler` when one of `signals` comes. It may only do what is safe in a signal handler:
/// store to an atomic.
pub(crate) fn on_signal(signals: &[libc::c_int], handler: extern "C" fn(libc::c_int)) {
    for &signal in signals {
        // SAFETY: the handler is a plain function that lives as long as the process; replacing the
        // disposition of SIGINT and SIGTERM has no other precondition.
        unsafe {
            libc::signal(signal, handler as *const () as libc::sighandler_t);
        }
    }
}

/// Tells the allocator to keep freed memory of up to 32 MiB a piece instead of giving it back.
///
/// A training step frees and asks again for the same tensors; glibc maps and unmaps the larger
/// ones each time, and the page faults took two fifths of a step's CPU time.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets tunables; called before other threads exist. Values it does not
    // like it refuses.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let reason = open_library("libno-such-thing.so.0").unwrap_err();
        assert!(reason.contains("libno-such-thing"), "{reason}");
        assert!(open_library("a\0b").is_err());
    }
}
