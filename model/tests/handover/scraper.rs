//! A scraper: the member's state machine, a disk, a queue, scrapes that take their time.

use std::collections::{BTreeMap, BTreeSet};

use promring_model::handover::{
    Drain, Effect, Member, MemberOptions, MoveId, Name, Progress, Saved, Staying,
};
use promring_model::target::TargetKey;

use crate::queue::{Barrier, DESTINATIONS, Queue, Record};
use crate::world::{Message, Mode, Place, World};

const HEARTBEAT_MS: i64 = 2_000;
/// Who is in doubt asks again after this, in milliseconds.
const DOUBT_TIMEOUT_MS: i64 = 5_000;
pub(crate) const POLL_TIMEOUT_MS: i64 = 9_000;
/// So long after a poll was sent, what a reply says is newer should have come, in milliseconds.
const BEHIND_MS: i64 = 1_000;
/// After a longer pause, and after a restart, a scraper may have been replaced, in milliseconds: half the lapse.
const PAUSE_MS: i64 = 7_600;
/// So long it must wait for word then, in milliseconds, but for rounding.
const SILENCE_MS: i64 = 9_800;

/// A drain may end by what it was told so long ago, in milliseconds.
const NEWS_MS: i64 = 10_000;

struct Scrape {
    key: TargetKey,
    slot_ms: i64,
    ends_ms: i64,
    fence: Option<MoveId>,
}

pub(crate) struct Scraper {
    pub(crate) name: Name,
    pub(crate) skew_ms: i64,
    /// The pod is there, running or not.
    pub(crate) exists: bool,
    /// The process; None: it is not running.
    pub(crate) member: Option<Member>,
    pub(crate) disk: Option<Saved>,
    pub(crate) queues: [Queue; DESTINATIONS.len()],
    /// Asked to end: then it comes back after so long, or (None) never.
    pub(crate) ending: Option<Option<i64>>,
    pub(crate) starts_ms: Option<i64>,
    /// Keys whose job is not in its file.
    pub(crate) lacking: BTreeSet<TargetKey>,
    alone: bool,
    staying: Option<Staying>,
    runs: u64,
    polls: u64,
    /// The first poll of this process; answers to earlier ones have nobody to go to.
    first_poll: u64,
    /// When this process began, by its own clock: the same is so of replies to earlier reports.
    began_ms: i64,
    /// The poll that is under way, and when it is given up.
    polling: Option<(u64, i64)>,
    next_poll_ms: i64,
    next_report_ms: i64,
    scrapes: Vec<Scrape>,
    tried: BTreeMap<TargetKey, i64>,
    last: BTreeMap<TargetKey, i64>,
    /// When this process heard of keys that they are gone.
    gone: BTreeMap<TargetKey, i64>,
    barriers: BTreeMap<(MoveId, usize), Barrier>,
    was_doubting: bool,
    stepped_ms: i64,
    found_ms: Option<i64>,
    /// The highest term whose leader this process knows to give out assignments.
    led_term: Option<u64>,
    /// Since when it must not start anything unless somebody says that it may.
    doubts_since_ms: Option<i64>,
}

impl Scraper {
    pub(crate) fn new(name: Name, skew_ms: i64, now_ms: i64) -> Self {
        Self {
            name,
            skew_ms,
            exists: true,
            member: None,
            disk: None,
            queues: Default::default(),
            ending: None,
            starts_ms: Some(now_ms),
            lacking: BTreeSet::new(),
            alone: false,
            staying: None,
            runs: 0,
            polls: 0,
            first_poll: 0,
            began_ms: i64::MIN,
            polling: None,
            next_poll_ms: 0,
            next_report_ms: 0,
            scrapes: Vec::new(),
            tried: BTreeMap::new(),
            last: BTreeMap::new(),
            gone: BTreeMap::new(),
            barriers: BTreeMap::new(),
            was_doubting: false,
            stepped_ms: now_ms,
            found_ms: None,
            led_term: None,
            doubts_since_ms: None,
        }
    }

    pub(crate) fn takes(&self) -> bool {
        self.exists && self.ending.is_none()
    }

    /// These keys' job is not in its file. It scrapes those that it has already, as the product does until it has loaded the file.
    pub(crate) fn set_lacking(&mut self, keys: BTreeSet<TargetKey>) {
        if let Some(member) = &mut self.member {
            member.set_unready(keys.clone());
        }
        self.lacking = keys;
    }

    /// The process ends at once; what is in flight is lost, what is queued is not.
    pub(crate) fn stop(&mut self) {
        self.member = None;
        self.scrapes.clear();
        (self.found_ms, self.led_term) = (None, None);
        self.tried.clear();
        self.last.clear();
        self.gone.clear();
        self.barriers.clear();
        self.polling = None;
        self.ending = None;
        (self.alone, self.staying) = (false, None);
    }

    fn start(&mut self, now_ms: i64) {
        self.runs += 1;
        self.first_poll = self.polls + 1;
        let clock_ms = now_ms + self.skew_ms;
        self.began_ms = clock_ms;
        let options = MemberOptions::default();
        let mut member = match self.disk.clone() {
            Some(saved) => Member::restored(self.name.clone(), options, self.runs, saved, clock_ms),
            None => Member::new(self.name.clone(), options, self.runs, clock_ms),
        };
        member.set_address(&self.name);
        member.set_unready(self.lacking.clone());
        // Of what lies behind a fence whose move was not saved nobody says when that is over.
        let known: BTreeSet<MoveId> = member.fences().map(|(id, ..)| id).collect();
        for queue in &mut self.queues {
            queue.held().difference(&known).for_each(|id| queue.open(*id));
        }
        self.member = Some(member);
        self.starts_ms = None;
        (self.stepped_ms, self.doubts_since_ms) = (now_ms, Some(now_ms));
        (self.next_poll_ms, self.next_report_ms) = (now_ms, now_ms);
    }
}

impl World {
    pub(crate) fn step_scrapers(&mut self) {
        for name in self.scrapers.keys().cloned().collect::<Vec<_>>() {
            let Some(mut scraper) = self.scrapers.remove(&name) else { continue };
            self.step_scraper(&mut scraper);
            self.scrapers.insert(name, scraper);
        }
    }

    fn step_scraper(&mut self, s: &mut Scraper) {
        let now_ms = self.now_ms;
        if s.exists && s.starts_ms.is_some_and(|at| at <= now_ms) {
            s.start(now_ms);
            self.say(|| format!("{} starts", s.name));
        }
        if s.member.is_none() || self.faults.paused(&Place::Scraper(s.name.clone()), now_ms).is_some() {
            return;
        }
        if now_ms - std::mem::replace(&mut s.stepped_ms, now_ms) > PAUSE_MS {
            s.doubts_since_ms = Some(now_ms);
        }
        self.scrape(s);
        self.send_queues(s);
        let clock_ms = now_ms + s.skew_ms;
        let Some(member) = &mut s.member else { return };
        member.tick(clock_ms);
        let doubts = member.is_doubting();
        if doubts && !s.was_doubting {
            // What was asked before says nothing any more.
            s.polling = None;
            s.next_poll_ms = now_ms;
        }
        s.was_doubting = doubts;
        // A crash may come between two steps: then what was not saved was not said either.
        let slow = self.mode == Mode::Chaos;
        let unsaved = member.unsaved();
        if unsaved.is_some() && slow && now_ms < self.calm_ms && self.chance.ppm(4_000) {
            return self.crash_out_of_reach(s);
        }
        if let Some(saved) = unsaved
            && self.chance.ppm(if slow { 250_000 } else { 700_000 })
        {
            s.disk = Some(saved);
            member.saved();
        }
        if member.unsaved().is_none()
            && let Some(asked_ms) = s.found_ms.take()
        {
            self.audit.found(&s.name, asked_ms);
        }
        self.talk(s);
        self.end(s);
    }

    /// Starts what is due, and queues what has ended.
    fn scrape(&mut self, s: &mut Scraper) {
        let clock_ms = self.now_ms + s.skew_ms;
        let Some(member) = &mut s.member else { return };
        let keys: Vec<TargetKey> = member.keys().map(|(key, _)| key).collect();
        for key in keys {
            let Some(target) = self.targets.get(&key) else { continue };
            let slot_ms = target.slots.slot_at(clock_ms);
            let busy = s.scrapes.iter().any(|scrape| scrape.key == key);
            if busy || s.tried.insert(key, slot_ms) == Some(slot_ms) {
                continue;
            }
            if member.may_start(key, slot_ms, clock_ms) {
                let doubts = s.doubts_since_ms.is_some_and(|since_ms| self.now_ms - since_ms < SILENCE_MS);
                assert!(
                    !doubts,
                    "at {}: {} scrapes {key} and cannot know whether it may",
                    self.now_ms, s.name
                );
                self.audit.started(key, slot_ms, &s.name, self.now_ms);
                s.last.insert(key, slot_ms);
                let ends_ms = self.now_ms + self.chance.between(10, target.slots.interval_ms() * 7 / 10);
                let fence = member.fence(key).map(|(id, _)| id);
                s.scrapes.push(Scrape { key, slot_ms, ends_ms, fence });
            }
        }
        let now_ms = self.now_ms;
        let (ended, going) =
            std::mem::take(&mut s.scrapes).into_iter().partition(|one| one.ends_ms <= now_ms);
        s.scrapes = going;
        for Scrape { key, slot_ms, fence, .. } in Vec::from_iter::<Vec<Scrape>>(ended) {
            s.enqueue(fence, &Record { key, time_ms: slot_ms, queued_ms: now_ms });
        }
    }

    fn send_queues(&mut self, s: &mut Scraper) {
        let now_ms = self.now_ms;
        for (index, queue) in s.queues.iter_mut().enumerate() {
            if let Some(max) = self.faults.receives(index, now_ms) {
                let audit = &mut self.audit;
                queue.send(max, |record| audit.received(index, record.key, record.time_ms, &s.name, now_ms));
            }
        }
        let clock_ms = now_ms + s.skew_ms;
        let Some(member) = &mut s.member else { return };
        let mut sent = Vec::new();
        for (id, at, keys) in member.giving() {
            // What was started before T is still to come.
            let scraping = s.scrapes.iter().any(|scrape| keys.contains(&scrape.key) && scrape.slot_ms < at);
            if clock_ms < at || scraping {
                continue;
            }
            for (index, queue) in s.queues.iter().enumerate() {
                let barrier = s.barriers.entry((id, index)).or_insert_with(|| queue.barrier(keys, id));
                if queue.has_passed(barrier) && member.is_clear(id, DESTINATIONS[index]) {
                    sent.push((id, index));
                }
            }
        }
        for (id, index) in &sent {
            let all = sent.iter().filter(|(other, _)| other == id).count() == DESTINATIONS.len();
            member.sent(*id, Some(DESTINATIONS[*index]), all);
        }
        s.tell_progress(now_ms);
    }

    fn talk(&mut self, s: &mut Scraper) {
        let (now_ms, me) = (self.now_ms, Place::Scraper(s.name.clone()));
        let clock_ms = now_ms + s.skew_ms;
        let Some(member) = &mut s.member else { return };
        if now_ms >= s.next_report_ms
            && let Some(report) = member.report(clock_ms)
        {
            s.next_report_ms = now_ms + HEARTBEAT_MS;
            if let Some(index) = self.service() {
                let message =
                    Message::Report { from: s.name.clone(), report: Box::new(report), asked_ms: clock_ms };
                self.send(me.clone(), Place::Allocator(index), message);
            }
        }
        // An answer may be under way; if it is not, the next poll asks for it.
        let overdue = s.polling.is_some_and(|(_, until)| now_ms >= until - POLL_TIMEOUT_MS + BEHIND_MS);
        // Whoever is in doubt does not wait for news.
        let patience_ms = if member.is_doubting() { DOUBT_TIMEOUT_MS } else { POLL_TIMEOUT_MS };
        let given_up = s.polling.is_some_and(|(_, until)| now_ms >= until - POLL_TIMEOUT_MS + patience_ms);
        if overdue && member.is_behind() || given_up {
            s.polling = None;
        }
        if s.polling.is_none() && now_ms >= s.next_poll_ms {
            s.polls += 1;
            s.next_poll_ms = now_ms + 300;
            if let Some(index) = self.service() {
                s.polling = Some((s.polls, now_ms + POLL_TIMEOUT_MS));
                let message = Message::Poll {
                    from: s.name.clone(),
                    run: member.run(),
                    held: member.version(),
                    asked_ms: clock_ms,
                    number: s.polls,
                    wait: !member.is_doubting(),
                };
                self.send(me.clone(), Place::Allocator(index), message);
            }
        }
        for (id, address) in member.questions(clock_ms) {
            let message = Message::Question { from: s.name.clone(), id };
            self.send(me.clone(), Place::Scraper(Name::from(address)), message);
        }
    }

    /// Ends a process that was asked to, when its drain is over.
    fn end(&mut self, s: &mut Scraper) {
        let (now_ms, Some(back)) = (self.now_ms, s.ending) else { return };
        let clock_ms = now_ms + s.skew_ms;
        let Some(member) = &mut s.member else { return };
        member.drain(clock_ms);
        let drained = member.drained(s.alone, s.staying, clock_ms);
        if drained == Drain::Given {
            member.close(clock_ms);
        }
        let done = match drained {
            Drain::No | Drain::Waiting => false,
            Drain::Given | Drain::Left(_) => {
                s.scrapes.is_empty() && (back.is_some() || s.queues.iter().all(Queue::is_empty))
            }
            Drain::InVain => true,
        };
        if !done || s.member.as_ref().is_some_and(|member| member.unsaved().is_some()) {
            return;
        }
        self.say(|| format!("{} ends: {drained:?}", s.name));
        if matches!(drained, Drain::Left(_) | Drain::InVain) {
            let left = s.member.iter().flat_map(|member| member.keys().map(|(key, _)| key)).collect();
            self.leave(&s.name, &left);
        }
        if drained == Drain::InVain {
            // Nobody else was there.
            self.audit.nobody_left(now_ms);
            if back.is_none() && !s.queues.iter().all(Queue::is_empty) {
                self.audit.left_unsent(&s.name, now_ms);
            }
        }
        if self.mode != Mode::Planned {
            // Nobody it could reach may know yet when it stopped, nor can ask it any more: then it is as lost as any other.
            self.audit.fault(&s.name, now_ms, now_ms);
        }
        self.say_last(s);
        s.stop();
        match back {
            Some(pause_ms) => s.starts_ms = Some(now_ms + pause_ms),
            None => s.exists = false,
        }
    }

    /// The last report of a process that ends.
    fn say_last(&mut self, s: &mut Scraper) {
        let (clock_ms, me) = (self.now_ms + s.skew_ms, Place::Scraper(s.name.clone()));
        let Some(member) = &mut s.member else { return };
        member.end();
        s.tell_progress(self.now_ms);
        let Some(member) = &mut s.member else { return };
        let Some(report) = member.report(clock_ms) else { return };
        if let Some(index) = self.service() {
            let message =
                Message::Report { from: s.name.clone(), report: Box::new(report), asked_ms: clock_ms };
            self.send(me, Place::Allocator(index), message);
        }
    }

    /// A drain has ended with these keys: those that lack something are lost, as with any other that goes, and nothing else is.
    fn leave(&mut self, name: &Name, keys: &BTreeSet<TargetKey>) {
        let (now_ms, mut lacking) = (self.now_ms, self.lacking());
        let (until_ms, lacked) = &self.lacked;
        if now_ms - until_ms < NEWS_MS {
            lacking.extend(lacked);
        }
        let left: BTreeSet<TargetKey> = keys.intersection(&lacking).copied().collect();
        self.audit.totals.left += u64::from(!left.is_empty());
        self.audit.left(name, &left, now_ms, self.lacking_ms.is_none());
    }

    pub(crate) fn scraper_receives(&mut self, name: &Name, from: &Place, message: Message) {
        let Some(mut s) = self.scrapers.remove(name) else { return };
        self.receive(&mut s, from, message);
        self.scrapers.insert(name.clone(), s);
    }

    fn receive(&mut self, s: &mut Scraper, from: &Place, message: Message) {
        let now_ms = self.now_ms;
        let clock_ms = now_ms + s.skew_ms;
        let first_poll = s.first_poll;
        let Some(member) = &mut s.member else { return };
        let newest = matches!(from, Place::Allocator(index) if self.lease.holder == Some(*index));
        let over = |s_polling: &mut Option<(u64, i64)>, number| {
            if s_polling.is_some_and(|(current, _)| current == number) {
                *s_polling = None;
            }
        };
        match message {
            Message::Told { number, .. } | Message::Unchanged { number, .. } if number < first_poll => {}
            Message::Told { told, asked_ms, number, .. } => {
                over(&mut s.polling, number);
                let before: BTreeSet<TargetKey> = member
                    .keys()
                    .filter(|(key, _)| member.window(*key).is_some())
                    .map(|(key, _)| key)
                    .collect();
                let (version, overtaken_ms) = (told.version, member.overtaken_ms());
                if let Some(effects) = member.apply(*told, asked_ms, clock_ms) {
                    if member.overtaken_ms() != overtaken_ms {
                        self.audit.overtaken(&s.name, now_ms);
                    }
                    self.say(|| format!("{} takes {version}: {effects:?}", s.name));
                    s.next_report_ms = now_ms;
                    s.heard(asked_ms);
                    // What it has learnt it knows for good only when that is saved.
                    s.found_ms = newest.then_some(asked_ms - s.skew_ms);
                    self.note_late(s, &before);
                    self.carry_out(s, effects);
                }
            }
            Message::Unchanged { version, asked_ms, number, .. } => {
                over(&mut s.polling, number);
                member.confirm(version, asked_ms, clock_ms);
                if member.version() == Some(version) {
                    s.heard(asked_ms);
                }
                let Some(member) = &s.member else { return };
                if newest && member.version() == Some(version) {
                    s.found_ms = Some(asked_ms - s.skew_ms);
                }
            }
            Message::Refused { number } => over(&mut s.polling, number),
            Message::Reply { asked_ms, .. } if asked_ms < s.began_ms => {}
            Message::Reply { reply, alone, staying, asked_ms } => {
                (s.alone, s.staying) = (alone, staying);
                s.led_term = s.led_term.max(reply.version.map(|version| version.term));
                if member.replied(reply, clock_ms) {
                    s.next_report_ms = now_ms;
                }
                if reply.version.is_some() && reply.version == member.version() {
                    s.heard(asked_ms);
                }
            }
            Message::Question { from: by, id } => {
                if let Some(at) = member.asked(id, &by) {
                    let me = Place::Scraper(s.name.clone());
                    self.send(me, Place::Scraper(by), Message::Word { id, at });
                }
            }
            Message::Word { id, at } => {
                let before: BTreeSet<TargetKey> = member
                    .keys()
                    .filter(|(key, _)| member.window(*key).is_some())
                    .map(|(key, _)| key)
                    .collect();
                member.heard(id, at, clock_ms);
                s.next_report_ms = now_ms;
                self.audit.totals.told_by_giver += 1;
                let knows_later = s.led_term > member.version().map(|version| version.term);
                if let Place::Scraper(giver) = from
                    && !knows_later
                {
                    let begun = member.keys().filter(|(key, _)| member.window(*key).is_some());
                    for (key, _) in begun.filter(|(key, _)| !before.contains(key)) {
                        self.audit.told_by_giver(key, &s.name, giver, now_ms);
                    }
                }
                self.note_late(s, &before);
            }
            Message::Poll { .. } | Message::Report { .. } => {}
        }
    }

    /// A taker that hears of T when that is past leaves a gap, and may.
    fn note_late(&mut self, s: &Scraper, before: &BTreeSet<TargetKey>) {
        let clock_ms = self.now_ms + s.skew_ms;
        let Some(member) = &s.member else { return };
        for (key, _) in member.keys().filter(|(key, _)| !before.contains(key)) {
            let comes = member.grant_of(key).is_some_and(|grant| grant.incoming.is_some());
            if comes && member.window(key).is_some_and(|(from, _)| from <= clock_ms + 1) {
                self.audit.late(self.mode, key, self.now_ms);
            }
        }
    }

    fn carry_out(&mut self, s: &mut Scraper, effects: Vec<Effect>) {
        let now_ms = self.now_ms;
        for effect in effects {
            match effect {
                Effect::Take(key) => {
                    if let Some(gone_ms) = s.gone.remove(&key) {
                        self.audit.back(self.mode, key, gone_ms, now_ms);
                    }
                }
                Effect::Moved(key) => {
                    s.last.remove(&key);
                }
                Effect::Gone { key, from, until, fence } => {
                    s.gone.insert(key, now_ms);
                    let last = s.last.remove(&key);
                    if last.is_none() && from.is_none() {
                        // A process that has not scraped it knows no series of it.
                        continue;
                    }
                    // A taker that has not scraped yet has asked the giver for the series.
                    let last_ms = last.map_or(now_ms + s.skew_ms, |last| last + 1);
                    let time_ms = last_ms.max(from.unwrap_or(last_ms));
                    if until.is_none_or(|until| time_ms < until) {
                        self.audit.marked(key, &s.name, now_ms);
                        s.scrapes.retain(|scrape| scrape.key != key);
                        // Nothing that is called sent stands behind the marker.
                        s.barriers.clear();
                        s.enqueue(fence, &Record { key, time_ms, queued_ms: now_ms });
                    }
                }
                Effect::Open(id, destination) => {
                    let found = DESTINATIONS.iter().position(|name| *name == destination);
                    if let Some(queue) = found.and_then(|index| s.queues.get_mut(index)) {
                        queue.open(id);
                    }
                }
                Effect::OpenAll(id) => s.queues.iter_mut().for_each(|queue| queue.open(id)),
            }
        }
    }
}

impl Scraper {
    /// A question that was put at this time, by the own clock, is answered.
    fn heard(&mut self, asked_ms: i64) {
        if self.doubts_since_ms.is_some_and(|since_ms| asked_ms - self.skew_ms >= since_ms) {
            self.doubts_since_ms = None;
        }
    }

    /// How far the queues are; what has just come waits as well.
    fn tell_progress(&mut self, now_ms: i64) {
        let progress = self.queues.iter().enumerate().map(|(index, queue)| {
            let oldest_ms = queue.oldest_ms().map_or(0, |oldest| (now_ms - oldest).max(1));
            (DESTINATIONS[index].to_owned(), Progress { acked: queue.acked, oldest_ms })
        });
        if let Some(member) = &mut self.member {
            member.set_progress(progress.collect());
        }
    }

    fn enqueue(&mut self, fence: Option<MoveId>, record: &Record) {
        for queue in &mut self.queues {
            queue.append(fence, record.clone());
        }
    }
}
