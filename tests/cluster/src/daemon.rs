//! A process that dies with the test, however the test ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running part of the control plane. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `program`; its output goes to `log`. The kernel kills it when the calling thread ends, so that has to be
    /// one that lives as long as the test.
    pub(crate) fn start(program: &Path, arguments: &[String], dir: &Path, log: PathBuf) -> Self {
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(dir)
            .envs(no_proxies())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("setpriv {}: {error}", program.display()));
        Self { child, log }
    }

    /// Panics with what it has logged if it has ended.
    pub(crate) fn check(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}:\n{}", self.log.display(), tail(&self.log, 20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() && std::env::var_os("PROMRING_CLUSTER_LOGS").is_some() {
            eprintln!("--- {}\n{}", self.log.display(), tail(&self.log, 40));
        }
    }
}

/// Variables that send no request of a test through a proxy.
pub(crate) fn no_proxies() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
        .into_iter()
        .map(|name| (name, ""))
}

/// The last lines of a file.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(lines).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
