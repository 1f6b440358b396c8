use super::*;

mod simulation;

const AT: Moment = Moment { steady_ms: 0, wall_ms: 1_000_000 };

fn after(seconds: i64) -> Moment {
    Moment { steady_ms: AT.steady_ms + seconds * 1_000, wall_ms: AT.wall_ms + seconds * 1_000 }
}

fn candidate(name: &str) -> Election {
    Election::new(name.to_owned(), format!("http://{name}:8080"), ElectionOptions::default())
}

fn held_by(holder: &str, term: u64, version: &str) -> Record {
    Record {
        holder: holder.to_owned(),
        address: format!("http://{holder}:8080"),
        term,
        duration: Duration::from_secs(15),
        version: version.to_owned(),
    }
}

/// Reads this, and does the write that follows; gives what was written.
fn take(election: &mut Election, found: Option<Record>, now: Moment) -> Record {
    assert_eq!(election.next(now), Action::Read);
    election.read(found, now);
    let Action::Write(wanted) = election.next(now) else { panic!("it is not taken") };
    election.written(wanted.clone(), Written::Done("next".to_owned()), now, now);
    wanted
}

#[test]
fn a_lease_without_a_holder_is_taken_with_the_next_term() {
    let mut first = candidate("a");
    assert_eq!(take(&mut first, None, AT), held_by("a", 1, ""));
    assert_eq!(first.term(AT), Some(1));
    let mut second = candidate("b");
    assert_eq!(take(&mut second, Some(held_by("", 7, "v")), AT), held_by("b", 8, "v"));
    let mut third = candidate("c");
    third.heard(20);
    assert_eq!(take(&mut third, Some(held_by("", 7, "v")), AT).term, 21);
}

#[test]
fn a_lease_that_was_deleted_does_not_begin_anew() {
    let mut election = candidate("a");
    assert_eq!(election.next(AT), Action::Read);
    election.read(Some(held_by("b", 7, "v")), AT);
    assert_eq!(election.next(AT), Action::Wait(2_000));
    assert_eq!(take(&mut election, None, after(2)), held_by("a", 8, ""));
    // Its own one is deleted as well, and another one's that it never saw came between.
    assert!(matches!(election.next(after(4)), Action::Write(_)));
    election.written(held_by("a", 8, "next"), Written::Unknown, after(4), after(4));
    assert_eq!(take(&mut election, None, after(5)), held_by("a", 9, ""));
}

#[test]
fn a_lease_that_somebody_renews_is_left_alone_and_one_that_nobody_renews_is_taken() {
    let mut election = candidate("b");
    let mut now = 0;
    for version in 0..20 {
        assert_eq!(election.next(after(now)), Action::Read);
        election.read(Some(held_by("a", 3, &version.to_string())), after(now));
        assert_eq!(election.next(after(now)), Action::Wait(2_000));
        assert_eq!(election.leader(after(now)).unwrap().address, "http://a:8080");
        now += 2;
    }
    // The last change was seen two seconds ago.
    for _ in 0..7 {
        assert_eq!(election.next(after(now)), Action::Read);
        election.read(Some(held_by("a", 3, "19")), after(now));
        assert_eq!(election.next(after(now)), Action::Wait(2_000), "{now}");
        now += 2;
    }
    assert_eq!(election.leader(after(now)), None, "it has run out");
    assert_eq!(take(&mut election, Some(held_by("a", 3, "19")), after(now)), held_by("b", 4, "19"));
}

#[test]
fn a_leader_that_cannot_renew_stops_before_the_lease_ends() {
    let mut election = candidate("a");
    take(&mut election, None, AT);
    assert_eq!(election.next(after(1)), Action::Wait(1_000));
    let mut now = 2;
    while election.term(after(now)).is_some() {
        assert!(matches!(election.next(after(now)), Action::Write(_)));
        election.written(held_by("a", 1, "next"), Written::Unknown, after(now), after(now));
        assert_eq!(election.next(after(now)), Action::Read);
        election.unread(after(now));
        now += 2;
    }
    assert_eq!(now, 10);
    assert_eq!(election.next(after(now)), Action::Read);
}

#[test]
fn a_leader_that_was_paused_is_none_when_it_wakes_up() {
    let mut election = candidate("a");
    take(&mut election, None, AT);
    assert_eq!(election.term(after(9)), Some(1));
    // Stopped, frozen together with its steady clock.
    assert_eq!(election.term(after(60)), None);
    assert_eq!(election.term(Moment { steady_ms: 1_000, wall_ms: after(60).wall_ms }), None);
    assert_eq!(election.term(Moment { steady_ms: 1_000, wall_ms: AT.wall_ms - 3_600_000 }), Some(1));
    // It finds its own Lease, which counts as that of somebody who is gone: its term is over.
    assert_eq!(take(&mut election, Some(held_by("a", 1, "next")), after(60)).term, 2);
}

#[test]
fn a_renewal_is_as_old_as_its_request() {
    let mut election = candidate("a");
    take(&mut election, None, AT);
    let Action::Write(wanted) = election.next(after(2)) else { panic!() };
    election.written(wanted, Written::Done("later".to_owned()), after(2), after(9));
    assert_eq!((election.term(after(11)), election.term(after(12))), (Some(1), None));
}

#[test]
fn who_has_lost_the_lease_to_somebody_does_not_lead() {
    let mut election = candidate("a");
    take(&mut election, None, AT);
    let Action::Write(wanted) = election.next(after(2)) else { panic!() };
    election.written(wanted, Written::Conflict, after(2), after(2));
    assert_eq!((election.term(after(2)), election.next(after(2))), (Some(1), Action::Read));
    // Only the labels were changed.
    election.read(Some(held_by("a", 1, "labelled")), after(2));
    assert_eq!(election.next(after(2)), Action::Write(held_by("a", 1, "labelled")));
    election.written(held_by("a", 1, "labelled"), Written::Conflict, after(2), after(3));
    election.read(Some(held_by("b", 2, "taken")), after(3));
    assert_eq!((election.term(after(3)), election.next(after(3))), (None, Action::Wait(2_000)));
}

#[test]
fn a_leader_that_hears_of_a_higher_term_begins_a_higher_one() {
    let mut election = candidate("a");
    take(&mut election, None, AT);
    election.heard(1);
    assert_eq!(election.term(AT), Some(1));
    election.heard(1_700_000_000_000);
    assert_eq!(election.term(AT), None);
    assert_eq!(take(&mut election, Some(held_by("a", 1, "next")), AT).term, 1_700_000_000_001);
}

#[test]
fn a_lease_that_is_released_has_no_holder_and_keeps_its_term() {
    let mut election = candidate("a");
    take(&mut election, None, AT);
    election.release();
    assert_eq!(election.term(after(1)), None, "before anybody else may");
    let Action::Write(wanted) = election.next(after(1)) else { panic!() };
    assert_eq!((wanted.holder.as_str(), wanted.term), ("", 1));
    election.written(wanted, Written::Done("free".to_owned()), after(1), after(1));
    assert_eq!((election.term(after(1)), election.next(after(1))), (None, Action::End));
    // Where it cannot be written, it runs out.
    let mut election = candidate("a");
    take(&mut election, None, AT);
    election.release();
    election.written(held_by("", 1, "next"), Written::Unknown, after(1), after(1));
    assert_eq!(election.next(after(5)), Action::Read);
    election.unread(after(5));
    assert_eq!(election.next(after(10)), Action::End);
    let mut follower = candidate("b");
    follower.release();
    assert_eq!(follower.next(AT), Action::End);
}
