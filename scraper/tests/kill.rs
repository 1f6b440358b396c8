//! A process that queues and sends is killed again and again (SIGKILL) while its receiver misbehaves at random: every sample that
//! was enqueued arrives, once and in order within its series. Of series that it refuses for ever, and of those that it refuses now and then,
//! each sample that is missing was refused alone: none was overtaken.
//!
//! The test starts itself as the process that is killed, so it has no test harness. `PROMRING_KILLS` sets how often it kills.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test without a harness")]

#[path = "../src/send/tests/receiver.rs"]
#[allow(dead_code, reason = "shared with the unit tests, which use more of it")]
mod receiver;

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use promring_model::config::{Config, ConfigSource, load};
use promring_proto::remote_write::v1;
use promring_scraper::queue::{Queue, RecordMeta, Volume};
use promring_scraper::send::{Senders, open_queue};
use rand::{RngExt as _, SeedableRng as _};
use receiver::{Action, Receiver};

const KILLS: u32 = 25;
const LANES: usize = 2;
/// Series of each lane.
const SERIES: usize = 5;
/// How seldom a lane's series that is refused now and then has a sample, and one that is refused for ever. Each waits for its turn.
const ILL_EVERY: i64 = 8;
const NEVER_EVERY: i64 = 16;

/// Set for the process that is killed: directory, URL, first time of a sample, and whether it only sends.
const CHILD: &str = "PROMRING_KILL_CHILD";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match std::env::var(CHILD) {
        Ok(arguments) => runtime.block_on(child(&arguments)),
        Err(_) => runtime.block_on(parent()),
    }
    ExitCode::SUCCESS
}

/// Queues and sends until it is killed; each time that is enqueued is written to stdout, as `LANE TIME`.
async fn child(arguments: &str) {
    let mut arguments = arguments.split('\n');
    let mut argument = || arguments.next().expect("four arguments");
    let (dir, url) = (PathBuf::from(argument()), argument());
    let (first, only_send) = (argument().parse::<i64>().expect("a time"), argument() == "true");
    let config = config(url);
    let destination = &config.remote_write[0];
    let queue = open_queue(&Volume::new(), destination, &config.scraper.queue, &dir);
    let queue = std::sync::Arc::new(queue.expect("the queue of the killed process can be opened"));
    let senders = Senders::new(destination, &queue).expect("a client");
    senders.start();
    if only_send {
        // Each sample aside waits for its turn, which a sender that is to finish does not; and what is pending may go aside.
        let is_left = || queue.stats().pending.records + queue.stats().aside.records > 0;
        for _ in 0..12_000 {
            if !is_left() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        senders.finish(Duration::from_secs(1)).await;
        assert!(!is_left(), "all is sent within two minutes");
        return;
    }
    let mut random = rand::rngs::SmallRng::seed_from_u64(first as u64);
    for time in first.. {
        let lane = time as usize % LANES;
        append(&queue, lane, time);
        let mut out = std::io::stdout().lock();
        writeln!(out, "{lane} {time}").and_then(|()| out.flush()).expect("the parent reads");
        drop(out);
        tokio::time::sleep(Duration::from_micros(random.random_range(0..600))).await;
    }
}

async fn parent() {
    let kills = std::env::var("PROMRING_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let seed = rand::random();
    println!("kill -9 loop: {kills} kills, seed {seed}");
    let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut moods = rand::rngs::SmallRng::seed_from_u64(seed + 1);
    let (is_over, given_up) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
    let (over, alone, mut is_ill) = (Arc::clone(&is_over), Arc::clone(&given_up), false);
    let receiver = Receiver::start(move |_, request| {
        is_ill ^= moods.random_ratio(1, 60);
        is_ill &= !over.load(Ordering::Relaxed);
        let samples = request.samples();
        let is_refused =
            samples.iter().any(|(name, _)| name.ends_with("never") || (is_ill && name.ends_with("ill")));
        match misbehave(&mut moods, request) {
            Action::Store | Action::StoreAndReset | Action::StoreAndAnswer(_) if is_refused => {
                if let [sample] = &*samples {
                    alone.lock().expect("nothing panics").insert(sample.clone());
                }
                Action::Answer(400, "too many labels")
            }
            action => action,
        }
    })
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    // The newest time of each lane that was enqueued for certain.
    let mut enqueued: Vec<Vec<i64>> = vec![Vec::new(); LANES];
    let mut first = 1;
    for _ in 0..kills {
        let lines = live_and_die(dir.path(), &receiver.url, first, random.random_range(0..80)).await;
        for (lane, time) in lines {
            enqueued[lane].push(time);
            first = first.max(time);
        }
        // What was enqueued and not told of any more keeps its times to itself.
        first += 1000;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut last = start(dir.path(), &receiver.url, first, true);
    let status = tokio::task::spawn_blocking(move || last.wait()).await.expect("waits").expect("ends");
    assert!(status.success(), "the last process sends the rest");
    check(&receiver, &enqueued);
    check_refused(&receiver, &enqueued, &given_up.lock().expect("nothing panics"));
    let requests = receiver.received().len();
    println!(
        "{} samples enqueued, {requests} requests",
        enqueued.iter().map(Vec::len).sum::<usize>() * SERIES
    );
}

/// Every sample, once and in order.
fn check(receiver: &Receiver, enqueued: &[Vec<i64>]) {
    let stored = receiver.stored();
    for (lane, times) in enqueued.iter().enumerate() {
        assert!(!times.is_empty(), "lane {lane} was used");
        for series in 0..SERIES {
            let got = &stored[&name(lane, series)];
            assert!(
                got.is_sorted_by(|a, b| a < b),
                "{} is in order and has nothing twice",
                name(lane, series)
            );
            let missing = times.iter().find(|time| got.binary_search(time).is_err());
            assert_eq!(missing, None, "{} has every sample that was enqueued", name(lane, series));
        }
    }
}

/// Whatever is missing of what is refused was refused alone.
fn check_refused(receiver: &Receiver, enqueued: &[Vec<i64>], given_up: &HashSet<(String, i64)>) {
    let stored = receiver.stored();
    let (mut taken, mut refused) = (0, 0);
    for (lane, times) in enqueued.iter().enumerate() {
        for (name, every) in [(ill(lane), ILL_EVERY), (never(lane), NEVER_EVERY)] {
            let got = stored.get(&name).cloned().unwrap_or_default();
            assert!(got.is_sorted_by(|a, b| a < b), "{name} is in order and has nothing twice");
            for time in times.iter().filter(|time| is_in(**time, every)) {
                let is_stored = got.binary_search(time).is_ok();
                assert!(
                    is_stored || given_up.contains(&(name.clone(), *time)),
                    "{name} at {time} is overtaken or lost"
                );
                (taken, refused) = (taken + u32::from(is_stored), refused + u32::from(!is_stored));
            }
        }
        assert!(!stored.contains_key(&never(lane)));
    }
    println!("of series that are refused {taken} samples are stored, {refused} were refused alone");
}

/// Starts the process, kills it `ms` milliseconds after it first enqueued something, and returns what it had enqueued.
async fn live_and_die(dir: &Path, url: &str, first: i64, ms: u64) -> Vec<(usize, i64)> {
    let mut child = start(dir, url, first, false);
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (alive, begun) = mpsc::channel();
    let reading = tokio::task::spawn_blocking(move || {
        let mut enqueued = Vec::new();
        for line in out.lines() {
            // A line that the kill cut off is not told.
            let Some((lane, time)) = line.ok().and_then(|line| {
                let (lane, time) = line.split_once(' ')?;
                Some((lane.parse().ok()?, time.parse().ok()?))
            }) else {
                break;
            };
            if enqueued.is_empty() {
                let _nobody_waits_any_more = alive.send(());
            }
            enqueued.push((lane, time));
        }
        enqueued
    });
    let killed = tokio::task::spawn_blocking(move || {
        begun.recv_timeout(Duration::from_secs(60)).expect("the process starts and enqueues");
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().and_then(|()| child.wait()).expect("it can be killed");
    });
    killed.await.expect("waits");
    // The number that was cut off in its line could look whole: it is taken as not told.
    let mut enqueued = reading.await.expect("reads");
    enqueued.pop();
    enqueued
}

fn start(dir: &Path, url: &str, first: i64, only_send: bool) -> Child {
    let program = std::env::current_exe().expect("this program");
    let arguments = format!("{}\n{url}\n{first}\n{only_send}", dir.display());
    Command::new(program).env(CHILD, arguments).stdout(Stdio::piped()).spawn().expect("it starts")
}

fn misbehave(random: &mut rand::rngs::SmallRng, request: &receiver::Received) -> Action {
    match random.random_range(0..30) {
        0 => Action::Reset,
        1 => Action::StoreAndReset,
        2 => Action::Hang,
        3 => Action::Answer(500, "no"),
        4 => Action::StoreAndAnswer(503),
        5 => Action::AnswerWith(429, "Retry-After", "0".to_owned()),
        // Never of a sample alone: that would be a refusal for good.
        6 if request.samples().len() > 1 => Action::Answer(400, "something in it is bad"),
        7 if request.samples().len() > 1 => Action::Answer(413, ""),
        _ => Action::Store,
    }
}

fn name(lane: usize, series: usize) -> String {
    format!("lane_{lane}_series_{series}")
}

/// A series that is refused now and then.
fn ill(lane: usize) -> String {
    format!("lane_{lane}_ill")
}

/// A series that is refused for ever.
fn never(lane: usize) -> String {
    format!("lane_{lane}_never")
}

/// Whether such a series has a sample at this time.
fn is_in(time: i64, every: i64) -> bool {
    time / LANES as i64 % every == 0
}

fn append(queue: &Queue, lane: usize, time: i64) {
    let mut bytes = Vec::new();
    let mut names: Vec<String> = (0..SERIES).map(|series| name(lane, series)).collect();
    names.extend(is_in(time, ILL_EVERY).then(|| ill(lane)));
    names.extend(is_in(time, NEVER_EVERY).then(|| never(lane)));
    for name in &names {
        let mut labels = Vec::new();
        v1::encode_labels([("__name__", name.as_str())], &mut labels);
        v1::push_series(&labels, time as f64, time, &mut bytes);
    }
    let body = snap::raw::Encoder::new().compress_vec(&bytes).expect("it is small");
    let meta =
        RecordMeta { samples: names.len() as u32, first_ms: time, last_ms: time, ..RecordMeta::default() };
    queue.append(lane, meta, &body).expect("it is enqueued");
}

fn config(url: &str) -> Config {
    let text = format!(
        "remote_write:\n- name: prod\n  url: {url}\n  remote_timeout: 50ms\n  \
         queue_config: {{max_shards: {LANES}, max_samples_per_send: 40, min_backoff: 1ms, max_backoff: 10ms}}\n"
    );
    let sources = HashMap::from([(PathBuf::from("kill.yml"), text)]);
    let loaded = load(Path::new("kill.yml"), &Sources(sources));
    loaded.config.expect("a good configuration")
}

struct Sources(HashMap<PathBuf, String>);

impl ConfigSource for Sources {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| "no such file".to_owned())
    }

    fn glob(&self, _pattern: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn env(&self, _name: &str) -> Option<String> {
        None
    }
}
