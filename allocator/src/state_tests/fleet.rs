//! An allocator's state and its scrapers in simulated time, with messages that take none.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::config::{Config, Discovery};
use promring_model::handover::{Effect, Grant, Member, MemberOptions, Name, Progress, Reply, Saved, Told};
use promring_model::target::{Target, TargetId, TargetKey};
use promring_proto::api::{Assignment, Health, QueueReport, Report, ReportAnswer, TargetReport, Version};

use crate::discovery::Found;
use crate::state::State;
use crate::testing::config_in;

/// A configuration whose job `web` has the targets `t:1` to `t:n`, with further keys of that job, and further jobs.
pub(super) fn config(targets: usize, keys: &str) -> Config {
    let targets: Vec<String> = (1..=targets).map(|n| format!("'t:{n}'")).collect();
    let text = format!(
        "allocator: {{settle: 5s, lapse: 15s}}\nscrape_configs:\n- job_name: web\n  static_configs: [{{targets: [{}]}}]\n{keys}",
        targets.join(", ")
    );
    config_in(&text)
}

/// Tells the state what its static sources find.
pub(super) fn discover(state: &mut State, config: &Config) {
    for job in &config.scrape_configs {
        for (source, discovery) in job.discovery.iter().enumerate() {
            if let Discovery::Static(groups) = discovery {
                state.discovered(&job.job_name, source, Found::all(groups));
            }
        }
    }
}

/// One target as its scraper holds it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    key: TargetKey,
    grant: Grant,
    job: String,
    pub(super) address: String,
    pub(super) path: String,
}

/// A scraper: its state machine, and the targets that it holds.
pub(super) struct Scraper {
    pub(super) member: Member,
    pub(super) held: BTreeMap<TargetId, Held>,
    version: Option<Version>,
    /// The last answers to its report and its poll.
    pub(super) answer: ReportAnswer,
    pub(super) told: Option<Assignment>,
    /// Addresses whose series it ended with markers.
    pub(super) marked: Vec<String>,
    /// Samples of its next scrapes, by address; None: they fail.
    pub(super) samples: BTreeMap<String, Option<u64>>,
    /// Where it runs, as it says.
    pub(super) node: String,
    /// It was told that there is nothing for it.
    spare: bool,
    /// Jobs that its file lacks.
    pub(super) lacks: Vec<String>,
    /// Samples that wait in its queue.
    pub(super) queued: u64,
    /// What it tells of targets beside those that it has.
    pub(super) beside: Vec<TargetReport>,
    /// Of so many targets it tells in one report, and of the others in those that follow; none: of all.
    pub(super) piece: Option<usize>,
    /// What it has yet to tell, where it tells in pieces.
    untold: Vec<TargetReport>,
    /// It has to tell of all targets.
    owes_all: bool,
}

impl Scraper {
    fn new(name: &str, run: u64, now_ms: i64) -> Self {
        Self::with(Member::new(Name::from(name), MemberOptions::default(), run, now_ms))
    }

    fn with(mut member: Member) -> Self {
        member.set_progress(BTreeMap::from([("one".to_owned(), Progress { acked: 1, oldest_ms: 0 })]));
        Self {
            member,
            held: BTreeMap::new(),
            version: None,
            answer: ReportAnswer::default(),
            told: None,
            marked: Vec::new(),
            samples: BTreeMap::new(),
            node: String::new(),
            spare: false,
            lacks: Vec::new(),
            queued: 0,
            beside: Vec::new(),
            piece: None,
            untold: Vec::new(),
            owes_all: true,
        }
    }

    fn report(&mut self, now_ms: i64) -> Option<Report> {
        let handover = self.member.report(now_ms)?;
        let targets = self.held.iter().map(|(id, held)| {
            let samples = self.samples.get(&held.address).copied().unwrap_or(Some(100));
            TargetReport {
                health: if samples.is_some() { Health::Up } else { Health::Down },
                samples: samples.unwrap_or_default(),
                ..TargetReport::unknown(*id)
            }
        });
        let mut targets: Vec<_> = targets.chain(self.beside.iter().cloned()).collect();
        let full = self.piece.is_none() || self.owes_all;
        if let Some(piece) = self.piece {
            if !full {
                targets = std::mem::take(&mut self.untold);
            }
            self.untold = targets.split_off(piece.min(targets.len()));
        }
        Some(Report {
            full,
            targets,
            node: self.node.clone(),
            spare: self.spare,
            unknown_jobs: self.lacks.clone(),
            queues: vec![QueueReport { samples: self.queued, ..QueueReport::default() }],
            handover,
            ..Report::default()
        })
    }

    /// As a scraper takes an answer: targets by id, grants by key.
    fn take(&mut self, config: &Config, answer: Assignment, now_ms: i64) {
        self.told = Some(answer.clone());
        assert!(self.member.takes(answer.version), "{:?} after {:?}", answer.version, self.version);
        if let Some(base) = answer.base {
            assert_eq!(self.version, Some(base), "a difference to what is held");
        }
        let mut ended: BTreeMap<TargetKey, String> = BTreeMap::new();
        for id in answer.gone {
            if let Some(held) = self.held.remove(&id) {
                ended.insert(held.key, held.address);
            }
        }
        for id in answer.moved {
            self.held.remove(&id);
        }
        if answer.base.is_none() {
            let gone = self.held.values().filter(|held| answer.gone_keys.contains(&held.key));
            ended.extend(gone.map(|held| (held.key, held.address.clone())).collect::<Vec<_>>());
            let unsynced: BTreeSet<&String> =
                answer.upsert.iter().filter(|(_, job)| !job.synced).map(|(name, _)| name).collect();
            self.held.retain(|_, held| unsynced.contains(&held.job));
        }
        for (job, assignment) in answer.upsert {
            let of_job = config.scrape_configs.iter().find(|known| known.job_name == job);
            for assigned in assignment.targets {
                let Some(of_job) = of_job else { continue };
                let target = Target::from_final_labels(of_job, assigned.labels).unwrap();
                let label = |name: &str| target.labels.get(name).unwrap_or_default().to_owned();
                let held = Held {
                    key: target.key,
                    grant: assigned.grant,
                    job: job.clone(),
                    address: label("__address__"),
                    path: label("__metrics_path__"),
                };
                self.held.insert(assigned.id, held);
            }
        }
        let grants: BTreeMap<TargetKey, Grant> =
            self.held.values().map(|held| (held.key, held.grant)).collect();
        let gone = ended.keys().filter(|key| !grants.contains_key(key)).copied().collect();
        self.version = Some(answer.version);
        let told = Told { version: answer.version, grants, moves: answer.moves, gone };
        for effect in self.member.apply(told, now_ms, now_ms).unwrap_or_default() {
            if let Effect::Gone { key, .. } = effect {
                self.marked.extend(ended.get(&key).cloned());
            }
        }
    }

    fn key(&self, address: &str) -> Option<TargetKey> {
        self.held.values().find(|held| held.address == address).map(|held| held.key)
    }
}

/// The allocator and its scrapers.
pub(super) struct Fleet {
    pub(super) config: Config,
    pub(super) state: State,
    pub(super) scrapers: BTreeMap<String, Scraper>,
    /// They do not report and are not told anything.
    pub(super) silent: BTreeSet<String>,
    pub(super) now_ms: i64,
}

impl Fleet {
    /// A fleet that has settled, with its queues sent to the end all the time.
    pub(super) fn new(config: &Config, names: &[&str]) -> Self {
        let mut fleet = Self::unsettled(config, names);
        fleet.run(10_000);
        assert_eq!(fleet.state.readiness(), Ok(()));
        fleet
    }

    /// A fleet at its start.
    pub(super) fn unsettled(config: &Config, names: &[&str]) -> Self {
        let mut state = State::new(config, 0);
        state.lead(5, true, 0);
        discover(&mut state, config);
        let mut fleet = Self {
            config: config.clone(),
            state,
            scrapers: BTreeMap::new(),
            silent: BTreeSet::new(),
            now_ms: 0,
        };
        names.iter().for_each(|name| fleet.join(name));
        fleet
    }

    pub(super) fn join(&mut self, name: &str) {
        self.scrapers.insert(name.to_owned(), Scraper::new(name, 1, self.now_ms));
    }

    /// A scraper that has given everything away starts again, with its volume.
    pub(super) fn come_back(&mut self, name: &str) {
        let version = self.scrapers.get(name).and_then(|scraper| scraper.version);
        let saved =
            Saved { promised: version.map_or(0, |version| version.term), version, ..Saved::default() };
        let member = Member::restored(Name::from(name), MemberOptions::default(), 2, saved, self.now_ms);
        self.scrapers.insert(name.to_owned(), Scraper { version, ..Scraper::with(member) });
    }

    /// How old a scraper's oldest unsent sample is, and how much it has sent.
    pub(super) fn queued(&mut self, name: &str, oldest_ms: i64, acked: u64) {
        let progress = Progress { acked, oldest_ms };
        self.scraper(name).member.set_progress(BTreeMap::from([("one".to_owned(), progress)]));
    }

    /// The allocator's process starts again, and its discovery too.
    pub(super) fn restart_allocator(&mut self) {
        self.state = State::new(&self.config, self.now_ms);
        self.state.lead(1, true, self.now_ms);
        discover(&mut self.state, &self.config);
    }

    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.config = config.clone();
        self.state.apply_config(config);
        discover(&mut self.state, config);
    }

    /// Time passes by the second, and in it everybody talks who is not silent.
    pub(super) fn run(&mut self, time_ms: i64) {
        let end_ms = self.now_ms + time_ms;
        while self.now_ms < end_ms {
            self.now_ms += 1_000;
            self.state.advance(self.now_ms);
            let names: Vec<String> = self.scrapers.keys().cloned().collect();
            for name in names.iter().filter(|name| !self.silent.contains(*name)).collect::<Vec<_>>() {
                self.talk(name);
            }
            self.state.advance(self.now_ms);
        }
    }

    /// Until every hand-over is done; a bound on how long that takes.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            self.run(1_000);
            if self.state.moves().next().is_none() {
                return;
            }
        }
        panic!("hand-overs do not end: {:?}", self.state.moves().collect::<Vec<_>>());
    }

    pub(super) fn talk(&mut self, name: &str) {
        let now_ms = self.now_ms;
        let Some(scraper) = self.scrapers.get_mut(name) else { return };
        for _ in 0..4 {
            if scraper.member.unsaved().is_some() {
                scraper.member.saved();
            }
            // Its queue is empty: everything from before T is sent once T has passed.
            let given: Vec<_> =
                scraper.member.giving().filter(|(_, at, _)| *at <= now_ms).map(|g| g.0).collect();
            given.into_iter().for_each(|id| scraper.member.sent(id, None, true));
            let Some(report) = scraper.report(now_ms) else { return };
            let answer = self.state.report(name, report, now_ms).unwrap();
            let ReportAnswer { term, full_claims, sequence, version, .. } = answer;
            let again = scraper.member.replied(Reply { term, full: full_claims, sequence, version }, now_ms);
            scraper.owes_all = answer.full;
            scraper.spare = answer.spare.unwrap_or(scraper.spare);
            scraper.answer = answer;
            self.state.advance(now_ms);
            match self.state.assignment(name, scraper.version) {
                Some(told) => scraper.take(&self.config, told, now_ms),
                None => {
                    if let Some(version) = self.state.version_of(name) {
                        scraper.member.confirm(version, now_ms, now_ms);
                    }
                    if !again {
                        return;
                    }
                }
            }
        }
    }

    pub(super) fn scraper(&mut self, name: &str) -> &mut Scraper {
        self.scrapers.get_mut(name).unwrap()
    }

    /// The addresses that a scraper may scrape now.
    pub(super) fn scrapes(&mut self, name: &str) -> BTreeSet<String> {
        let now_ms = self.now_ms + 1;
        let Some(scraper) = self.scrapers.get_mut(name) else { return BTreeSet::new() };
        let keys: BTreeMap<TargetKey, String> =
            scraper.held.values().map(|held| (held.key, held.address.clone())).collect();
        let may = |key: TargetKey| {
            let window = scraper.member.window(key);
            window.is_some_and(|(from, until)| from <= now_ms && until.is_none_or(|until| now_ms < until))
        };
        keys.into_iter().filter(|(key, _)| may(*key)).map(|(_, address)| address).collect()
    }

    /// What each scrapes. Every target is scraped by one, which this asserts.
    pub(super) fn shares(&mut self) -> BTreeMap<String, BTreeSet<String>> {
        let names: Vec<String> = self.scrapers.keys().cloned().collect();
        let shares: BTreeMap<String, BTreeSet<String>> =
            names.into_iter().map(|name| (name.clone(), self.scrapes(&name))).collect();
        let mut all: Vec<&String> = shares.values().flatten().collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "no target has two scrapers");
        let living: usize = self.state.jobs().map(|job| job.active().len()).sum();
        assert_eq!(count, living, "every target has a scraper");
        shares
    }

    /// Who has how many targets by placement's books, which is what they have.
    pub(super) fn books(&mut self) -> BTreeMap<String, usize> {
        let loads = self.state.leading().unwrap().loads();
        let books = loads.into_iter().map(|load| (load.scraper.to_string(), load.keys));
        let books: BTreeMap<String, usize> = books.collect();
        let shares = self.shares();
        for (name, keys) in &books {
            assert_eq!(shares[name].len(), *keys, "{name} in the books, {books:?}");
        }
        books
    }

    /// Whom an address is scraped by.
    pub(super) fn scraper_of(&mut self, address: &str) -> Option<String> {
        let names: Vec<String> = self.scrapers.keys().cloned().collect();
        names.into_iter().find(|name| self.scrapes(name).contains(address))
    }

    /// The keys' windows on a scraper: first slot, and first slot that is not its own any more.
    pub(super) fn window(&mut self, name: &str, address: &str) -> Option<(i64, Option<i64>)> {
        let scraper = self.scraper(name);
        let key = scraper.key(address)?;
        scraper.member.window(key)
    }
}
