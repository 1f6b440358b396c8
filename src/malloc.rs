//! How the C library's allocator is to work where targets are scraped.
//!
//! glibc gives each thread an arena of its own, in which what is freed stays for that thread. A large scrape runs on
//! another thread for each of its pieces, and its strings are freed by whoever comes next, so the arenas of all threads
//! together kept several times what was in use. With one arena what is freed is used again by all; and blocks from
//! [`MMAP_THRESHOLD`] on go back to the system as soon as they are freed, whatever came before. glibc reads this from the
//! environment, at the start of the process; other C libraries have one arena anyway.

use std::ffi::OsStr;

/// The variables and what they are set to, unless somebody has set them.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", MMAP_THRESHOLD),
    // What is free at the heap's end beyond this goes back as well.
    ("MALLOC_TRIM_THRESHOLD_", "8388608"),
];

/// In bytes.
const MMAP_THRESHOLD: &str = "1048576";

/// Begins the process anew with these settings, if it does not have them. It returns where it has, or where it cannot: the
/// settings save memory and change nothing else.
pub(crate) fn use_one_arena() {
    let is_set = |(name, _): &(&str, &str)| std::env::var_os(name).is_some();
    let is_tuned = std::env::var_os("GLIBC_TUNABLES").is_some_and(|all| contains_malloc(&all));
    if SETTINGS.iter().all(is_set) || is_tuned {
        return;
    }
    begin_anew(SETTINGS.into_iter().filter(|setting| !is_set(setting)));
}

fn contains_malloc(tunables: &OsStr) -> bool {
    tunables.to_string_lossy().contains("glibc.malloc.")
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn begin_anew(settings: impl Iterator<Item = (&'static str, &'static str)>) {
    use std::os::unix::process::CommandExt as _;

    let (Ok(program), mut arguments) = (std::env::current_exe(), std::env::args_os()) else { return };
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It only returns where it fails.
    let _error = command.args(arguments).envs(settings).exec();
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn begin_anew(_settings: impl Iterator<Item = (&'static str, &'static str)>) {}
