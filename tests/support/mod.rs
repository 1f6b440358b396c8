//! What the tests of the real binary share: processes that end with the test, free ports, waiting for an event.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod certificates;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long an event may take before the test fails. Generous: two cores may be busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed when the test ends, however it ends. Its output goes to a file.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with these arguments; `dir` takes its log.
    pub fn start(name: &str, program: impl AsRef<Path>, arguments: &[&str], dir: &Path) -> Self {
        Self::start_with(name, program, arguments, dir, &[])
    }

    /// The same with environment variables.
    pub fn start_with(
        name: &str,
        program: impl AsRef<Path>,
        arguments: &[&str],
        dir: &Path,
        variables: &[(&str, &Path)],
    ) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(program.as_ref())
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {}: {error}", program.as_ref().display()));
        Self { child, name: name.to_owned(), log }
    }

    /// Starts promring.
    pub fn promring(name: &str, arguments: &[&str], dir: &Path) -> Self {
        Self::start(name, env!("CARGO_BIN_EXE_promring"), arguments, dir)
    }

    /// Starts promring standalone on a free port, with its queues in `dir/data`; gives its URL as well.
    pub fn standalone(name: &str, config: &Path, dir: &Path) -> (Self, String) {
        let listen = format!("127.0.0.1:{}", free_port());
        let data = dir.join("data");
        let (config, data) = (config.to_str().unwrap(), data.to_str().unwrap());
        let arguments = ["standalone", "--config", config, "--data-dir", data, "--listen", &listen];
        (Self::promring(name, &arguments, dir), format!("http://{listen}"))
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether it has a handler for any signal that asks it for something.
    pub fn listens_to_signals(&self) -> bool {
        use rustix::process::Signal;

        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        let bit = |signal: Signal| 1_u64 << (signal.as_raw() - 1);
        caught & (bit(Signal::HUP) | bit(Signal::INT) | bit(Signal::TERM)) != 0
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(since.elapsed() < PATIENCE, "{} does not end:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A line of its `/proc/PID/status` that tells memory (VmRSS, VmHWM), in bytes.
    pub fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).unwrap();
        value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// Lets VmHWM begin anew.
    pub fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- {} (last lines)", self.name);
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// `full` where tests/e2e.sh runs in its full form, `short` otherwise.
pub fn scaled<T>(short: T, full: T) -> T {
    if std::env::var("PROMRING_E2E_FULL").is_ok_and(|value| value == "1") { full } else { short }
}

/// Where the files of tests lie.
pub fn testdata() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata"))
}

/// A port of loopback that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a program to its end and gives its exit code, standard output and standard error.
pub fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_promring")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A client for the test's own requests.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap()
}

/// Waits until `check` gives something, and says what it waited for if that never happens.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The body of a GET that answers 200; None otherwise.
pub async fn get(url: &str) -> Option<String> {
    let response = client().get(url).send().await.ok()?;
    if response.status() == 200 { response.text().await.ok() } else { None }
}

/// The JSON of a GET that answers 200; None otherwise.
pub async fn get_json(url: &str) -> Option<serde_json::Value> {
    serde_json::from_str(&get(url).await?).ok()
}

/// The value of a metric without labels, or the sum over its labels; None where it is not shown.
pub async fn metric(base: &str, name: &str) -> Option<f64> {
    metric_of(base, name, "").await
}

/// The same of series whose labels, as they are written, contain this text.
pub async fn metric_of(base: &str, name: &str, labels: &str) -> Option<f64> {
    let text = get(&format!("{base}/metrics")).await?;
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let meant = rest.starts_with([' ', '{']) && line.contains(labels);
        meant.then(|| line.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    let values: Vec<f64> = text.lines().filter_map(value).collect();
    if values.is_empty() { None } else { Some(values.iter().sum()) }
}
