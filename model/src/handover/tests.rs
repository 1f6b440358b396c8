//! Single traces of leader and members, one rule each. What happens when traces meet, the simulation shows.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::target::TargetKey;

const KEY: TargetKey = TargetKey(7);

/// A leader and its members, with messages that take no time.
struct Fleet {
    leader: Leader,
    members: BTreeMap<Name, Member>,
    now_ms: i64,
    /// Whose volume takes nothing.
    failing: Option<Name>,
}

fn name(text: &str) -> Name {
    Name::from(text)
}

fn leader(term: u64, now_ms: i64, expected: &[&str]) -> Leader {
    Leader::new(LeaderOptions::default(), term, expected.iter().copied().map(name), now_ms)
}

impl Fleet {
    /// Members of which `a` owns the key.
    fn new(names: &[&str]) -> Self {
        let members = names.iter().map(|text| {
            let mut member = Member::new(name(text), MemberOptions::default(), 1, 0);
            member.set_address(&format!("http://{text}"));
            (name(text), member)
        });
        let mut fleet =
            Self { leader: leader(1, 0, names), members: members.collect(), now_ms: 0, failing: None };
        fleet.run(3_000);
        fleet.want("a");
        fleet.run(1_000);
        assert!(fleet.may_start("a"));
        fleet
    }

    fn want(&mut self, owner: &str) {
        self.leader.want(&BTreeMap::from([(KEY, name(owner))]), self.now_ms);
    }

    /// Time passes by the second; everyone reports and is told, but those named.
    fn run_without(&mut self, time_ms: i64, silent: &[&str]) {
        let end_ms = self.now_ms + time_ms;
        while self.now_ms < end_ms {
            self.now_ms += 1_000;
            self.leader.advance(self.now_ms);
            let names: Vec<Name> = self.members.keys().cloned().collect();
            for name in names.iter().filter(|name| !silent.contains(&&***name)) {
                self.talk(name);
            }
            self.leader.advance(self.now_ms);
        }
    }

    fn run(&mut self, time_ms: i64) {
        self.run_without(time_ms, &[]);
    }

    fn talk(&mut self, name: &Name) {
        let Some(member) = self.members.get_mut(name) else { return };
        for _ in 0..4 {
            if let Some(saved) = member.unsaved() {
                if self.failing.as_ref() == Some(name) {
                    member.cannot_save(&saved);
                } else {
                    member.saved();
                }
            }
            let Some(report) = member.report(self.now_ms) else {
                self.leader.alive(name, self.now_ms);
                return;
            };
            let reply = self.leader.report(name, report, self.now_ms);
            let again = member.replied(reply, self.now_ms);
            self.leader.advance(self.now_ms);
            match self.leader.told(name, member.version()) {
                Some(told) => drop(member.apply(told, self.now_ms, self.now_ms)),
                None if !again => return,
                None => {}
            }
        }
    }

    fn member(&mut self, text: &str) -> &mut Member {
        self.members.get_mut(&name(text)).unwrap()
    }

    /// Whether a member may start a slot that is due in a moment.
    fn may_start(&mut self, text: &str) -> bool {
        let now_ms = self.now_ms + 1;
        self.member(text).may_start(KEY, now_ms, now_ms)
    }

    fn window(&mut self, text: &str) -> Option<(i64, Option<i64>)> {
        self.member(text).window(KEY)
    }

    fn steps(&self) -> Vec<Step> {
        self.leader.moves().map(|status| status.step).collect()
    }
}

/// How far a member's queue is.
fn late(text: &str, fleet: &mut Fleet, acked: u64, oldest_ms: i64) {
    fleet.member(text).set_progress(BTreeMap::from([("one".to_owned(), Progress { acked, oldest_ms })]));
}

#[test]
fn giver_and_taker_agree_on_one_time() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run(2_000);
    assert_eq!(fleet.steps(), [Step::From]);
    let (_, until) = fleet.window("a").unwrap();
    let (from, _) = fleet.window("b").unwrap();
    assert_eq!(until, Some(from));
    assert!(from > fleet.now_ms, "T is ahead");
    assert!(fleet.may_start("a") && !fleet.may_start("b"));
    fleet.run(from - fleet.now_ms);
    assert!(!fleet.may_start("a") && fleet.may_start("b"));
}

#[test]
fn the_fence_stays_closed_until_the_giver_has_sent_everything() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run(30_000);
    assert_eq!(fleet.steps(), [Step::Fence]);
    let (id, terms) = fleet.member("b").fence(KEY).map(|(id, terms)| (id, terms.clone())).unwrap();
    assert!(terms.sent.is_empty());
    assert!(fleet.window("a").is_none(), "the giver need not keep the key for that");
    fleet.member("a").sent(id, Some("one"), false);
    fleet.run(1_000);
    assert_eq!(fleet.member("b").fence(KEY).unwrap().1.sent, BTreeSet::from(["one".to_owned()]));
    fleet.member("a").sent(id, Some("two"), true);
    fleet.run(1_000);
    assert_eq!(fleet.steps(), []);
    assert_eq!(fleet.member("b").fence(KEY), None);
    assert_eq!(fleet.leader.moves_ended(), (1, 0));
}

#[test]
fn what_goes_on_by_another_move_stays_behind_the_fence_by_which_it_came() {
    let mut fleet = Fleet::new(&["a", "b", "c"]);
    fleet.want("b");
    fleet.run(30_000);
    let came = fleet.leader.moves().next().unwrap().id;
    fleet.want("c");
    while fleet.leader.moves().last().unwrap().step != Step::From {
        fleet.run(1_000);
    }
    fleet.run(1_000);
    // "b" still has it, and "a" has not sent what it scraped before.
    assert!(fleet.may_start("b") && !fleet.may_start("c"));
    assert_eq!(fleet.member("b").fence(KEY).map(|(id, _)| id), Some(came));
    let goes = fleet.member("c").fence(KEY).map(|(id, _)| id);
    assert!(goes.is_some_and(|id| id > came));
    // It ends while "b" has it: so do the markers.
    let now_ms = fleet.now_ms;
    fleet.leader.want(&BTreeMap::new(), now_ms);
    fleet.run(1_000);
    assert_eq!(fleet.member("b").ended().next(), Some((KEY, came)));
}

#[test]
fn a_fence_opens_when_its_giver_stands_still_while_others_are_served() {
    let mut fleet = Fleet::new(&["a", "b", "c"]);
    fleet.want("b");
    let progress = |acked| BTreeMap::from([("one".to_owned(), Progress { acked, oldest_ms: 0 })]);
    fleet.member("a").set_progress(progress(1));
    for acked in 0..290 {
        fleet.member("c").set_progress(progress(acked));
        fleet.run(1_000);
    }
    assert_eq!((fleet.steps(), fleet.leader.fences_forced()), (vec![Step::Fence], 0));
    for acked in 300..350 {
        fleet.member("c").set_progress(progress(acked));
        fleet.run(1_000);
    }
    assert_eq!(fleet.leader.fences_forced(), 1);
    assert!(fleet.member("b").fence(KEY).is_some_and(|(_, terms)| terms.sent.contains("one")));
}

#[test]
fn a_giver_that_hears_of_a_time_too_late_is_given_another() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run_without(9_000, &["a"]);
    assert_eq!(fleet.window("a").unwrap().1, None);
    assert!(!fleet.may_start("b"));
    let heard_ms = fleet.now_ms;
    fleet.run(2_000);
    let until = fleet.window("a").unwrap().1.unwrap();
    assert!(until > heard_ms);
    fleet.run(2_000);
    assert!(fleet.window("b").unwrap().0 >= until);
}

#[test]
fn a_taker_without_a_leader_asks_the_giver() {
    let mut fleet = Fleet::new(&["a", "b", "c"]);
    fleet.want("b");
    // The giver has accepted, and the taker hears nothing any more.
    fleet.run_without(1_000, &[]);
    let id = fleet.leader.moves().next().unwrap().id;
    while fleet.window("a").unwrap().1.is_none() {
        fleet.run_without(1_000, &["b"]);
    }
    assert_eq!(fleet.window("b"), None);
    assert_eq!(fleet.member("a").asked(id, "c"), None, "it is not for everybody");
    let now_ms = fleet.now_ms + 3_000;
    assert_eq!(fleet.member("b").questions(now_ms), [(id, "http://a".to_owned())]);
    let at = fleet.member("a").asked(id, "b").unwrap();
    fleet.member("b").heard(id, at, now_ms);
    assert_eq!(fleet.window("b").unwrap().0, at.max(now_ms + 1));
    assert_eq!(fleet.member("b").report(now_ms), None, "not before it is safe");
}

/// A move that the giver has agreed on, which only the giver knows, and whose taker is `b`.
fn agreed_unheard(fleet: &mut Fleet) -> (MoveId, i64) {
    fleet.want("b");
    while fleet.steps() != [Step::Until] {
        fleet.run_without(1_000, &["a"]);
    }
    let (now_ms, version) = (fleet.now_ms, fleet.member("a").version());
    let id = fleet.leader.moves().next().unwrap().id;
    let told = fleet.leader.told(&name("a"), version).unwrap();
    drop(fleet.member("a").apply(told, now_ms, now_ms));
    fleet.member("a").saved();
    (id, fleet.member("a").asked(id, "b").unwrap())
}

#[test]
fn a_taker_takes_no_word_of_a_giver_when_a_later_leader_has_decided() {
    let mut fleet = Fleet::new(&["a", "b"]);
    let (id, at) = agreed_unheard(&mut fleet);
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    // What b is told gets lost, and the replies to its reports do not.
    while !fleet.leader.is_leading() {
        let later_ms = fleet.now_ms + 3_000;
        let asks = !fleet.member("b").clone().questions(later_ms).is_empty();
        assert!(asks, "nobody has decided yet");
        fleet.now_ms += 1_000;
        let now_ms = fleet.now_ms;
        for _ in 0..2 {
            fleet.member("b").saved();
            let report = fleet.member("b").report(now_ms).unwrap();
            let reply = fleet.leader.report("b", report, now_ms);
            fleet.member("b").replied(reply, now_ms);
            fleet.leader.advance(now_ms);
        }
    }
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.leader.owner(KEY), None, "whoever is wanted next has it at once");
    assert_eq!(fleet.member("b").questions(now_ms + 3_000), [], "a leader has counted a as lost");
    // The answer to an earlier question.
    fleet.member("b").heard(id, at, now_ms);
    assert_eq!(fleet.window("b"), None);
}

#[test]
fn a_later_leader_completes_what_is_final_and_moves_nothing() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run(2_000);
    let until = fleet.window("a").unwrap().1.unwrap();
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.run(1_000);
    assert_eq!((fleet.window("a").unwrap().1, fleet.window("b").unwrap().0), (Some(until), until));
    assert_eq!(fleet.leader.owner(KEY), Some(&name("b")));
    fleet.run(30_000);
    assert_eq!((fleet.steps(), fleet.leader.keys_lost()), (vec![Step::Fence], 0));
}

#[test]
fn what_giver_and_taker_settled_without_a_leader_is_transferred_under_the_next_one() {
    for begun in [false, true] {
        let mut fleet = Fleet::new(&["a", "b"]);
        let (id, at) = agreed_unheard(&mut fleet);
        if begun {
            fleet.run(1_000);
        } else {
            // The leader does not hear of it any more.
            let now_ms = fleet.now_ms;
            fleet.member("b").heard(id, at, now_ms);
            fleet.member("b").saved();
        }
        let moved = [transfer("a", "b")];
        let (before, after) = if begun { (&moved[..], &[][..]) } else { (&[][..], &moved[..]) };
        assert_eq!(fleet.leader.take_transfers(), before);
        fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
        fleet.run(30_000);
        assert_eq!(fleet.leader.take_transfers(), after);
        assert_eq!(fleet.leader.owner(KEY), Some(&name("b")));
    }
}

#[test]
fn a_new_leader_gives_out_nothing_before_everyone_has_told_or_is_lost() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.run_without(15_000, &["a"]);
    assert!(!fleet.leader.is_leading());
    fleet.run_without(2_000, &["a"]);
    assert!(fleet.leader.is_leading());
    fleet.want("b");
    fleet.run_without(1_000, &["a"]);
    assert!(fleet.may_start("b"), "nobody has it, as far as can be known");
}

#[test]
fn a_key_that_returns_under_a_new_leader_comes_from_the_one_that_ended_it() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.leader.want(&BTreeMap::new(), fleet.now_ms);
    fleet.run(1_000);
    assert!(fleet.member("a").grant_of(KEY).is_none());
    // It restarts as well, with what it saved.
    let now_ms = fleet.now_ms;
    let a = fleet.member("a");
    a.promise(2);
    let saved = a.unsaved().unwrap();
    *a = Member::restored(name("a"), MemberOptions::default(), 2, saved, now_ms);
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.run(3_000);
    fleet.want("b");
    fleet.leader.advance(fleet.now_ms);
    let moves: Vec<(Name, Name)> = fleet.leader.moves().map(|status| (status.old, status.new)).collect();
    assert_eq!(moves, [(name("a"), name("b"))], "what a has queued of it comes first");
    // Who ended it long ago has nothing of it any more.
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.leader.want(&BTreeMap::new(), fleet.now_ms);
    fleet.run(310_000);
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.run(3_000);
    fleet.want("b");
    fleet.run(1_000);
    assert!(fleet.may_start("b") && fleet.leader.moves().next().is_none());
}

#[test]
fn a_new_leader_that_was_stopped_takes_nobody_for_lost_who_has_yet_to_tell() {
    for stopped_ms in [20_000, 100_000] {
        let mut fleet = Fleet::new(&["a", "b"]);
        fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
        fleet.talk(&name("b"));
        // It reports, and the answer that asks it for everything is lost.
        let now_ms = fleet.now_ms;
        let report = fleet.member("a").report(now_ms).unwrap();
        assert!(fleet.leader.report("a", report, now_ms).full);
        fleet.leader.advance(now_ms);
        fleet.now_ms += stopped_ms;
        fleet.leader.advance(fleet.now_ms);
        assert!(!fleet.leader.is_leading(), "all seem lost");
        fleet.talk(&name("b"));
        assert!(!fleet.leader.is_leading(), "one has not told yet, and may be alive");
        fleet.run(2_000);
        assert!(fleet.leader.is_leading());
        assert_eq!(fleet.leader.owner(KEY), Some(&name("a")));
        // One that is lost is waited for no longer than the lapse.
        fleet.leader = leader(3, fleet.now_ms, &["a", "b"]);
        fleet.run_without(17_000, &["a"]);
        assert!(fleet.leader.is_leading());
    }
}

#[test]
fn nothing_of_a_lower_term_is_taken() {
    let mut fleet = Fleet::new(&["a", "b"]);
    let mut old = fleet.leader.clone();
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.run(2_000);
    old.want(&BTreeMap::new(), fleet.now_ms);
    old.advance(fleet.now_ms);
    let told = old.told("a", None).unwrap();
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").apply(told, now_ms, now_ms), None);
    assert!(fleet.may_start("a"));
}

fn transfer(old: &str, new: &str) -> Transfer {
    Transfer { key: KEY, old: name(old), new: name(new) }
}

#[test]
fn a_key_is_transferred_once_when_that_is_agreed_and_not_before() {
    let mut fleet = Fleet::new(&["a", "b", "c"]);
    assert_eq!(fleet.leader.take_transfers(), [], "it was nobody's");
    fleet.want("b");
    assert_eq!(fleet.leader.want_key(KEY, Some(&name("b")), fleet.now_ms), None, "it is to go there already");
    assert_eq!(fleet.leader.want_key(KEY, Some(&name("c")), fleet.now_ms), Some(name("a")));
    assert_eq!(fleet.leader.want_key(KEY, Some(&name("a")), fleet.now_ms), None, "it is there");
    assert!(fleet.leader.is_where_wanted(KEY));
    fleet.want("b");
    assert!(!fleet.leader.is_where_wanted(KEY));
    assert_eq!(fleet.leader.take_transfers(), []);
    fleet.run(60_000);
    assert_eq!(fleet.leader.take_transfers(), [transfer("a", "b")]);
    // The taker is lost: what it had goes on.
    fleet.want("c");
    fleet.run(2_000);
    assert_eq!(fleet.leader.take_transfers(), [transfer("b", "c")]);
    fleet.run_without(20_000, &["c"]);
    fleet.want("a");
    fleet.run_without(1_000, &["c"]);
    assert_eq!(fleet.leader.take_transfers(), [transfer("c", "a")]);
}

#[test]
fn the_keys_of_a_lost_member_are_given_at_once_and_without_a_fence() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.run_without(16_000, &["a"]);
    fleet.want("b");
    fleet.run_without(1_000, &["a"]);
    assert!(fleet.may_start("b"));
    assert_eq!(fleet.leader.keys_lost(), 1);
    assert_eq!(fleet.leader.take_transfers(), [transfer("a", "b")]);
    assert_eq!(fleet.member("b").fence(KEY), None);
    // It comes back, and hears that it has nothing.
    fleet.run(1_000);
    assert!(!fleet.may_start("a"));
}

#[test]
fn who_was_replaced_learns_that_and_knows_it_after_a_restart() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.run_without(16_000, &["a"]);
    fleet.want("b");
    fleet.run_without(1_000, &["a"]);
    assert_eq!(fleet.member("a").overtaken_ms(), None, "nobody has told it yet");
    fleet.run_without(1_000, &["b"]);
    let learnt_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").overtaken_ms(), Some(learnt_ms));
    // What follows is planned.
    fleet.want("a");
    fleet.run(30_000);
    assert!(fleet.may_start("a") && !fleet.may_start("b"));
    assert_eq!((fleet.member("a").overtaken_ms(), fleet.member("b").overtaken_ms()), (Some(learnt_ms), None));
    fleet.want("b");
    fleet.run(1_000);
    let saved = loop {
        fleet.leader.advance(fleet.now_ms);
        let told = fleet.leader.told("a", None).unwrap();
        let now_ms = fleet.now_ms;
        fleet.member("a").apply(told, now_ms, now_ms);
        if let Some(saved) = fleet.member("a").unsaved() {
            break serde_json::to_string(&saved).unwrap();
        }
        fleet.now_ms += 100;
    };
    let saved: Saved = serde_json::from_str(&saved).unwrap();
    let again = Member::restored(name("a"), MemberOptions::default(), 2, saved, fleet.now_ms);
    assert_eq!(again.overtaken_ms(), Some(learnt_ms));
}

#[test]
fn who_was_replaced_learns_that_from_a_key_that_is_to_come_back_as_well() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.run_without(16_000, &["a"]);
    fleet.want("b");
    fleet.run_without(1_000, &["a"]);
    let (now_ms, version) = (fleet.now_ms, fleet.member("a").version());
    // It is alive again, and placement wants the key where it was, before it asks.
    let report = fleet.member("a").report(now_ms).unwrap();
    fleet.leader.report("a", report, now_ms);
    fleet.want("a");
    fleet.leader.advance(now_ms);
    let told = fleet.leader.told("a", version).unwrap();
    assert!(told.grants[&KEY].incoming.is_some(), "{told:?}");
    fleet.member("a").apply(told, now_ms, now_ms);
    assert_eq!(fleet.member("a").overtaken_ms(), Some(now_ms));
}

#[test]
fn a_leader_that_hears_nobody_concludes_nothing() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    // The giver has accepted T, and its word does not arrive.
    fleet.run_without(2_000, &["a"]);
    fleet.leader.advance(fleet.now_ms);
    let told = fleet.leader.told("a", None).unwrap();
    let now_ms = fleet.now_ms;
    fleet.member("a").apply(told, now_ms, now_ms);
    let until = fleet.window("a").unwrap().1.unwrap();
    let id = fleet.leader.moves().next().unwrap().id;
    fleet.member("b").heard(id, until, now_ms);
    fleet.run_without(60_000, &["a", "b"]);
    assert_eq!((fleet.steps(), fleet.leader.keys_lost()), (vec![Step::Until], 0));
    // Members see to their time meanwhile, and are asked what is so.
    for silent in ["a", "b"] {
        let mut fleet = Fleet {
            leader: fleet.leader.clone(),
            members: fleet.members.clone(),
            now_ms: fleet.now_ms,
            failing: None,
        };
        fleet.run_without(3_000, &[silent]);
        fleet.run(20_000);
        assert_eq!(fleet.leader.owner(KEY), Some(&name("b")), "{silent} is heard last");
        assert!(!fleet.may_start("a") && fleet.may_start("b"));
        assert_eq!(fleet.leader.keys_lost(), 0);
    }
}

#[test]
fn after_a_pause_nothing_is_started_before_a_new_question_is_answered() {
    let mut fleet = Fleet::new(&["a", "b"]);
    let asked_ms = fleet.now_ms;
    fleet.now_ms += 8_000;
    let (now_ms, version) = (fleet.now_ms, fleet.leader.version_of("a"));
    assert!(!fleet.member("a").was_paused_since(0));
    assert!(!fleet.may_start("a"));
    assert!(fleet.member("a").was_paused_since(asked_ms) && !fleet.member("a").was_paused_since(now_ms + 2));
    fleet.member("a").confirm(version, asked_ms, now_ms);
    assert!(!fleet.may_start("a"), "that was asked before the pause");
    fleet.member("a").confirm(version, now_ms + 1, now_ms + 1);
    fleet.now_ms += 1;
    assert!(fleet.may_start("a"));
}

#[test]
fn a_member_that_restarts_keeps_its_word() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run(1_000);
    let mut saved = None;
    while fleet.window("a").unwrap().1.is_none() {
        fleet.leader.advance(fleet.now_ms);
        let told = fleet.leader.told("a", None).unwrap();
        let now_ms = fleet.now_ms;
        fleet.member("a").apply(told, now_ms, now_ms);
        saved = fleet.member("a").unsaved().or(saved);
        fleet.now_ms += 100;
    }
    let until = fleet.window("a").unwrap().1.unwrap();
    let text = serde_json::to_string(&saved.unwrap()).unwrap();
    let saved: Saved = serde_json::from_str(&text).unwrap();
    let mut again = Member::restored(name("a"), MemberOptions::default(), 2, saved, until - 20_000);
    for now_ms in ((until - 20_000)..(until + 2_000)).step_by(500) {
        // Without any leader it goes on, and it stops when it said.
        let started = again.may_start(KEY, now_ms, now_ms);
        assert_eq!(started, now_ms > until - 10_000 && now_ms < until, "{}", now_ms - until);
    }
}

#[test]
fn a_member_whose_volume_takes_nothing_scrapes_after_a_restart_and_is_in_no_hand_over() {
    let mut fleet = Fleet::new(&["a", "b"]);
    // Anything unsaved gives all of what is to be saved.
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.leader.advance(fleet.now_ms);
    fleet.member("a").promise(1_000_000);
    let saved = Saved { promised: 1, ..fleet.member("a").unsaved().unwrap() };
    let restored = Member::restored(name("a"), MemberOptions::default(), 2, saved, fleet.now_ms);
    fleet.members.insert(name("a"), restored);
    assert!(!fleet.may_start("a"), "nobody has confirmed yet that it holds");
    fleet.failing = Some(name("a"));
    fleet.run(2_000);
    assert!(fleet.leader.is_leading(), "everybody has told, long before anybody's patience ends");
    fleet.run(1_000);
    assert!(fleet.may_start("a"));
    // A time that it accepts could be forgotten, so it is silent about it.
    fleet.want("b");
    fleet.run(60_000);
    assert!(fleet.may_start("a") && !fleet.may_start("b"));
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").report(now_ms), None);
    fleet.failing = None;
    fleet.run(40_000);
    assert!(!fleet.may_start("a") && fleet.may_start("b"));
    assert_eq!(fleet.leader.keys_lost(), 0);
}

#[test]
fn what_the_volume_did_not_take_is_not_said_of_a_later_change() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.member("a").promise(7);
    assert_eq!(fleet.member("a").report(9_000), None, "nobody has tried yet");
    let tried = fleet.member("a").unsaved().unwrap();
    fleet.member("a").promise(8);
    assert!(!fleet.member("a").cannot_save(&tried));
    assert_eq!(fleet.member("a").report(9_000), None, "that was an earlier state");
    let tried = fleet.member("a").unsaved().unwrap();
    assert!(fleet.member("a").cannot_save(&tried));
    assert!(fleet.member("a").report(9_000).is_some());
    assert!(!fleet.member("a").cannot_save(&tried), "no news");
    fleet.member("a").promise(9);
    assert_eq!(fleet.member("a").report(9_000), None, "the volume may take it by now");
}

#[test]
fn what_came_by_a_move_is_not_called_sent_before_its_giver_has_sent_all() {
    let mut member = Member::new(name("b"), MemberOptions::default(), 1, 0);
    let id = |counter| MoveId(Version { term: 1, counter });
    let terms = |old: &str, new: &str, sent: &[&str]| MoveTerms {
        old: name(old),
        old_address: String::new(),
        new: name(new),
        at: Some(1_000),
        begin: true,
        sent: sent.iter().map(|&one| one.to_owned()).collect(),
    };
    // It came from "a", and goes back there before it had a slot here.
    let mut told = |counter: u64, grant: Grant, sent: &[&str]| {
        let moves = [(id(1), terms("a", "b", sent)), (id(2), terms("b", "a", &[]))];
        let version = Version { term: 1, counter };
        let grants = BTreeMap::from([(KEY, grant)]);
        let moves = moves.into_iter().take(counter.min(2) as usize).collect();
        member.apply(Told { version, grants, gone: BTreeSet::new(), moves }, 0, 0).unwrap();
        ["one", "two"].map(|destination| member.is_clear(id(2), destination))
    };
    told(1, Grant { incoming: Some(id(1)), outgoing: None }, &[]);
    let goes = Grant { incoming: Some(id(1)), outgoing: Some(id(2)) };
    assert_eq!(told(2, goes, &[]), [false, false]);
    assert_eq!(told(3, goes, &["one"]), [true, false]);
}

/// "a" has the key, which goes; "a" ends with so much unsent, and the key is back. Who has it a moment later.
fn back_after_the_end_of_its_owner(oldest_ms: i64) -> Option<Name> {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.leader.want(&BTreeMap::new(), fleet.now_ms);
    fleet.run(1_000);
    let now_ms = fleet.now_ms;
    let member = fleet.member("a");
    member.drain(now_ms);
    assert!(member.close(now_ms));
    member.end();
    member.set_progress(BTreeMap::from([("one".to_owned(), Progress { acked: 9, oldest_ms })]));
    fleet.run(1_000);
    fleet.want("b");
    fleet.run_without(1_000, &["a"]);
    fleet.leader.owner(KEY).cloned()
}

#[test]
fn a_key_that_is_back_waits_for_nobody_that_has_ended_and_sent_everything() {
    assert_eq!(back_after_the_end_of_its_owner(0), Some(name("b")));
    assert_eq!(back_after_the_end_of_its_owner(1), Some(name("a")), "what it has may come late");
}

#[test]
fn who_drains_waits_for_a_leader_as_long_as_an_allocator_is_there_that_may_become_one() {
    let mut fleet = Fleet::new(&["a", "b"]);
    let now_ms = fleet.now_ms;
    fleet.member("a").drain(now_ms);
    let mut ends_after = |is_there: bool| {
        let mut member = fleet.member("a").clone();
        (1..60).find(|seconds| {
            let at_ms = now_ms + seconds * 1_000;
            if is_there {
                member.noticed(at_ms);
            }
            member.drained(false, None, at_ms) == Drain::InVain
        })
    };
    assert_eq!([ends_after(false), ends_after(true)], [Some(16), Some(31)]);
}

#[test]
fn who_drains_gives_everything_and_who_is_alone_drains_in_vain() {
    let mut fleet = Fleet::new(&["a", "b"]);
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").drained(false, None, now_ms), Drain::No);
    fleet.member("a").drain(now_ms);
    assert_eq!(fleet.member("a").drained(true, None, now_ms), Drain::InVain);
    fleet.run(1_000);
    fleet.want("b");
    fleet.run(3_000);
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").drained(false, None, now_ms), Drain::Waiting);
    fleet.run(6_000);
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").drained(false, None, now_ms), Drain::Given);
}

#[test]
fn a_drain_does_not_wait_for_keys_that_the_leader_does_not_know() {
    let mut fleet = Fleet::new(&["a", "b"]);
    // The next leader has not heard of the key's job.
    fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
    fleet.run(20_000);
    assert_eq!(fleet.leader.owner(KEY), Some(&name("a")));
    assert_eq!(fleet.leader.staying("a"), None, "it does not drain");
    let now_ms = fleet.now_ms;
    fleet.member("a").drain(now_ms);
    fleet.run(1_000);
    let staying = fleet.leader.staying("a");
    assert_eq!(staying.map(|staying| (staying.unknown, staying.unready)), Some((1, 0)));
    let now_ms = fleet.now_ms;
    assert_eq!(
        fleet.member("a").drained(false, None, now_ms),
        Drain::Waiting,
        "an older leader says nothing"
    );
    let stale = staying.map(|staying| Staying { version: Version { term: 1, counter: 9 }, ..staying });
    assert_eq!(fleet.member("a").drained(false, stale, now_ms), Drain::Waiting);
    assert!(matches!(fleet.member("a").drained(false, staying, now_ms), Drain::Left(_)));
    assert!(fleet.may_start("a"), "it scrapes on until it ends");
    // The source has come: now it moves.
    fleet.want("b");
    fleet.run(1_000);
    assert_eq!(fleet.leader.staying("a"), None);
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").drained(false, staying, now_ms), Drain::Waiting);
    fleet.run(8_000);
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").drained(false, None, now_ms), Drain::Given);
}

#[test]
fn a_drain_does_not_wait_for_ever_for_takers_that_do_not_get_ready() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.member("b").set_unready(BTreeSet::from([KEY]));
    let now_ms = fleet.now_ms;
    fleet.member("a").drain(now_ms);
    fleet.run(1_000);
    fleet.want("b");
    fleet.run(29_000);
    assert_eq!(fleet.leader.staying("a"), None, "b gets its time");
    fleet.run(10_000);
    let staying = fleet.leader.staying("a");
    assert_eq!(staying.map(|staying| (staying.unknown, staying.unready)), Some((0, 1)));
    let now_ms = fleet.now_ms;
    assert!(matches!(fleet.member("a").drained(false, staying, now_ms), Drain::Left(_)));
    // Its file has the job at last.
    fleet.member("b").set_unready(BTreeSet::new());
    fleet.run(2_000);
    assert_eq!(fleet.leader.staying("a"), None);
    let now_ms = fleet.now_ms;
    assert_eq!(fleet.member("a").drained(false, staying, now_ms), Drain::Waiting);
}

#[test]
fn what_is_not_urgent_waits_for_the_backlog_and_a_drain_does_not() {
    let mut fleet = Fleet::new(&["a", "b"]);
    late("a", &mut fleet, 0, 60_000);
    fleet.run(1_000);
    fleet.want("b");
    // Longer than a taker may need to be ready: this one is.
    for acked in 1..60 {
        late("b", &mut fleet, acked, 0);
        fleet.run(1_000);
    }
    assert_eq!((fleet.steps(), fleet.leader.moves_ended()), (vec![Step::Prepare], (0, 0)));
    let now_ms = fleet.now_ms;
    fleet.member("a").drain(now_ms);
    fleet.run(2_000);
    assert_eq!(fleet.steps(), [Step::From]);
}

#[test]
fn nobody_waits_for_a_backlog_to_a_destination_that_takes_nothing_of_anybody() {
    let mut fleet = Fleet::new(&["a", "b"]);
    late("a", &mut fleet, 0, 60_000);
    late("b", &mut fleet, 0, 60_000);
    fleet.run(12_000);
    fleet.want("b");
    fleet.run(3_000);
    assert_eq!(fleet.steps(), [Step::From]);
}

#[test]
fn a_later_leader_goes_on_with_a_move_of_which_nothing_was_agreed() {
    // Known to both, to the taker alone, and to the giver alone.
    for silent in [&[][..], &["a"], &["b"]] {
        let mut fleet = Fleet::new(&["a", "b", "c"]);
        late("a", &mut fleet, 0, 60_000);
        fleet.run(1_000);
        fleet.want("b");
        fleet.run_without(2_000, silent);
        assert_eq!(fleet.steps(), [Step::Prepare]);
        fleet.leader = leader(2, fleet.now_ms, &["a", "b", "c"]);
        fleet.run(1_000);
        assert_eq!(fleet.leader.owner(KEY), Some(&name("a")), "{silent:?}");
        assert_eq!(fleet.leader.placed().collect::<Vec<_>>(), [(KEY, &name("b"))], "{silent:?}");
        // Placement decides.
        fleet.want("c");
        assert_eq!(fleet.leader.placed().collect::<Vec<_>>(), [(KEY, &name("a"))], "{silent:?}");
    }
}

#[test]
fn a_later_leader_knows_that_a_move_was_given_up_though_one_end_does_not() {
    for stale in ["a", "b"] {
        let mut fleet = Fleet::new(&["a", "b"]);
        late("a", &mut fleet, 0, 60_000);
        fleet.run(1_000);
        fleet.want("b");
        fleet.run(2_000);
        fleet.want("a");
        fleet.run_without(2_000, &[stale]);
        assert_eq!(fleet.leader.moves_ended(), (0, 1));
        fleet.leader = leader(2, fleet.now_ms, &["a", "b"]);
        fleet.run(1_000);
        assert_eq!(fleet.leader.placed().collect::<Vec<_>>(), [(KEY, &name("a"))], "{stale} has not heard");
    }
}

#[test]
fn a_key_that_returns_at_once_is_where_it_was() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.leader.want(&BTreeMap::new(), fleet.now_ms);
    fleet.leader.advance(fleet.now_ms);
    assert!(fleet.leader.marks(KEY, "a") && !fleet.leader.marks(KEY, "b"));
    fleet.want("b");
    fleet.leader.advance(fleet.now_ms);
    assert_eq!(fleet.steps(), [Step::Prepare], "it moves, as its owner may not know that it went");
    fleet.now_ms += 1_000;
    assert!(fleet.may_start("a"));
}

#[test]
fn an_older_report_than_the_newest_is_ignored() {
    let mut fleet = Fleet::new(&["a", "b"]);
    let now_ms = fleet.now_ms;
    let early = fleet.member("a").report(now_ms).unwrap();
    fleet.run(1_000);
    fleet.leader.report("a", MemberReport { draining: true, ..early }, fleet.now_ms);
    assert!(fleet.leader.membership().takers().any(|taker| taker == "a"));
}

#[test]
fn a_taker_that_lacks_a_job_is_not_waited_for_for_ever() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.member("b").set_unready(BTreeSet::from([KEY]));
    fleet.want("b");
    fleet.run(29_000);
    assert_eq!((fleet.steps(), fleet.may_start("a")), (vec![Step::Prepare], true));
    fleet.run(3_000);
    assert_eq!(fleet.leader.moves_ended(), (0, 1));
}

/// A giver that has agreed on a time, and its taker, which has not heard that.
fn agreed_on() -> Fleet {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run(1_000);
    while fleet.window("a").unwrap().1.is_none() {
        fleet.run_without(1_000, &["b"]);
    }
    fleet
}

#[test]
fn a_taker_that_lacks_a_job_asks_nevertheless_when_no_leader_answers() {
    let mut fleet = agreed_on();
    // The giver stops at T, and its start anew has cost the taker a job. Of the other keys of the move it is the only one that can take them.
    fleet.member("b").set_unready(BTreeSet::from([KEY]));
    let now_ms = fleet.now_ms + 3_000;
    assert_eq!(fleet.member("b").questions(now_ms).len(), 1);
}

#[test]
fn who_has_given_all_is_ready_for_nothing_more() {
    let mut member = Member::new(name("b"), MemberOptions::default(), 1, 0);
    member.drain(0);
    member.saved();
    assert!(member.close(0), "it has nothing");
    let version = Version { term: 1, counter: 1 };
    let id = MoveId(version);
    let terms = MoveTerms {
        old: name("a"),
        old_address: String::new(),
        new: name("b"),
        at: None,
        begin: false,
        sent: BTreeSet::new(),
    };
    let grants = BTreeMap::from([(KEY, Grant { incoming: Some(id), outgoing: None })]);
    let moves = BTreeMap::from([(id, terms)]);
    member.apply(Told { version, grants, gone: BTreeSet::new(), moves }, 0, 0).unwrap();
    member.saved();
    let report = member.report(1).unwrap();
    assert_eq!(report.moves.iter().map(|word| (word.id, word.prepared)).collect::<Vec<_>>(), [(id, false)]);
    assert_eq!(member.questions(60_000), []);
}

#[test]
fn an_allocator_that_does_not_lead_yet_keeps_no_taker_from_asking() {
    let mut fleet = agreed_on();
    fleet.leader = leader(2, fleet.now_ms, &["a", "b", "c"]);
    fleet.run(3_000);
    let now_ms = fleet.now_ms;
    assert!(!fleet.leader.is_leading());
    assert_eq!(fleet.member("b").questions(now_ms).len(), 1);
}

#[test]
fn a_leader_without_a_lease_raises_its_term_above_all_that_were_seen() {
    let options = LeaderOptions { raises_term: true, ..LeaderOptions::default() };
    let mut leader = Leader::new(options, 3, [], 0);
    let report = MemberReport { run: 1, sequence: 1, promised: 9, full: true, ..MemberReport::default() };
    assert_eq!(leader.report("a", report.clone(), 0).term, 10);
    let mut leader = Leader::new(LeaderOptions::default(), 3, [], 0);
    leader.report("a", report, 0);
    assert!(leader.membership().is_empty(), "with a Lease it is the one that is too old");
}

#[test]
fn a_leader_that_retires_begins_nothing_and_tells_the_times_that_are_agreed_on() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.leader.retire();
    assert!(fleet.leader.has_told_times(fleet.now_ms));
    fleet.want("b");
    fleet.run(5_000);
    assert_eq!(fleet.steps(), [], "no move begins");

    // One that was under way: the giver has accepted T, and the taker has to hear of it.
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.want("b");
    fleet.run_without(2_000, &["a"]);
    assert_eq!(fleet.steps(), [Step::Until]);
    fleet.leader.retire();
    assert!(!fleet.leader.has_told_times(fleet.now_ms), "the giver may accept T at any moment");
    fleet.run_without(1_000, &["b"]);
    assert_eq!(fleet.steps(), [Step::From]);
    assert!(!fleet.leader.has_told_times(fleet.now_ms), "the taker does not know it");
    fleet.run(1_000);
    assert!(fleet.leader.has_told_times(fleet.now_ms));
    assert!(fleet.window("b").is_some_and(|(from, _)| from > fleet.now_ms));
}
