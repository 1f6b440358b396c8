use super::*;

const MB: u64 = 1 << 20;

/// Memory with so much room, in a process that takes `resident` bytes from then on.
fn memory_beside(room: u64, resident: fn() -> u64) -> Arc<Memory> {
    let mut memory = Memory::new(Some(u64::MAX));
    Arc::get_mut(&mut memory).unwrap().resident = resident;
    memory.set_limit(Some(memory.base + with_slack(room)));
    memory
}

fn memory(room: u64) -> Arc<Memory> {
    memory_beside(room, || 0)
}

#[tokio::test]
async fn who_finds_no_room_waits_until_another_gives_it_back() {
    let memory = memory(96 * MB);
    let first = memory.admit(48 * MB).await;
    let waiting = tokio::spawn({
        let memory = Arc::clone(&memory);
        async move { memory.admit(40 * MB).await.bytes() }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "a part is left to small ones");
    drop(first);
    assert_eq!(waiting.await.unwrap(), 40 * MB);
    assert_eq!(memory.used(), memory.base);
    assert_eq!(memory.waiting.load(Ordering::Acquire), 0);
}

#[tokio::test]
async fn small_scrapes_find_room_when_large_ones_have_theirs() {
    let memory = memory(96 * MB);
    let _first = memory.try_admit(48 * MB).unwrap();
    let _second = memory.try_admit(36 * MB).unwrap();
    assert!(memory.try_admit(2 * MB).is_none());
    let small: Vec<Hold> = (0..12).map(|_| memory.try_admit(MB).unwrap()).collect();
    assert!(memory.try_admit(MB).is_none(), "all is taken");
    assert!(memory.used() <= memory.limit());
    drop(small);
    assert!(memory.try_admit(MB).is_some());
}

#[tokio::test]
async fn what_small_scrapes_hold_beyond_their_part_is_not_there_for_large_ones() {
    let memory = memory(96 * MB);
    let _small: Vec<Hold> = (0..60).map(|_| memory.try_admit(MB).unwrap()).collect();
    assert!(memory.try_admit(37 * MB).is_some_and(|hold| hold.bytes() == SMALL_BYTES_MAX));
    assert!(memory.try_admit(36 * MB).is_some_and(|hold| hold.bytes() == 36 * MB));
}

#[tokio::test]
async fn a_scrape_that_grows_past_its_share_is_told_so_and_keeps_what_it_has() {
    let memory = memory(96 * MB);
    let mut hold = memory.admit(MB).await;
    assert_eq!(hold.grow_to(48 * MB), Ok(()));
    let full = hold.grow_to(48 * MB + 1).unwrap_err();
    assert_eq!(full, Full::Share { share: 60 * MB, limit: memory.limit() });
    assert!(full.to_string().contains("60MB by scraper.memory_limit ("), "{full}");
    assert_eq!(hold.grow_beside(40 * MB, 8 * MB), Ok(()));
    assert!(matches!(hold.grow_beside(40 * MB, 9 * MB), Err(Full::Share { .. })), "its strings count");
    assert_eq!(hold.grow_to(10), Ok(()), "less is no request to give back");
    assert_eq!(hold.bytes(), 48 * MB);
    drop(hold);
    assert_eq!(memory.used(), memory.base);
}

#[tokio::test]
async fn a_large_scrape_gives_way_while_another_waits() {
    let memory = memory(96 * MB);
    let mut first = memory.admit(20 * MB).await;
    let waiting = tokio::spawn({
        let memory = Arc::clone(&memory);
        let second = memory.try_admit(48 * MB).unwrap();
        async move {
            let third = memory.admit(20 * MB).await;
            drop(second);
            third.bytes()
        }
    });
    while memory.waiting.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(first.grow_to(25 * MB), Err(Full::Others));
    drop(first);
    assert_eq!(waiting.await.unwrap(), 20 * MB);
}

#[tokio::test]
async fn where_series_leave_too_little_the_only_large_scrape_is_told_so() {
    let memory = memory(96 * MB);
    let mut series = memory.keep();
    series.set(80 * MB);
    let mut only = memory.admit(10 * MB).await;
    assert_eq!(only.bytes(), SMALL_BYTES_MAX, "waiting is of no use");
    assert_eq!(only.grow_to(4 * MB), Ok(()));
    assert_eq!(only.grow_to(5 * MB), Err(Full::Alone { limit: memory.limit() }));
}

#[tokio::test]
async fn series_that_have_outgrown_the_limit_leave_room_while_less_is_resident() {
    let memory = memory(96 * MB);
    let mut series = memory.keep();
    series.set(200 * MB);
    assert!(memory.try_admit(MB).is_some());
    let memory = memory_beside(96 * MB, || u64::MAX);
    let mut series = memory.keep();
    series.set(90 * MB);
    assert!(memory.try_admit(MB).is_some());
    series.set(200 * MB);
    assert!(memory.try_admit(MB).is_none());
}

#[tokio::test]
async fn a_large_scrape_also_has_to_fit_beside_what_is_resident_where_much_is_in_use() {
    let memory = memory_beside(96 * MB, || u64::MAX);
    let mut hold = memory.admit(36 * MB).await;
    assert_eq!(hold.grow_to(37 * MB), Err(Full::Alone { limit: memory.limit() }));
}

#[tokio::test]
async fn without_a_limit_everything_is_let_in() {
    let memory = Memory::new(Some(u64::MAX));
    let mut hold = memory.admit(1 << 50).await;
    assert_eq!(hold.grow_to(1 << 51), Ok(()));
    drop(hold);
    assert_eq!(memory.counted(), 0);
}

#[tokio::test]
async fn a_scrape_that_holds_little_claims_more_once_there_is_room_for_it() {
    let memory = memory(96 * MB);
    let other = memory.admit(48 * MB).await;
    let mut hold = memory.admit(16 << 10).await;
    assert!(tokio::time::timeout(std::time::Duration::ZERO, hold.claim(40 * MB)).await.is_err());
    assert_eq!((hold.bytes(), memory.waiting.load(Ordering::Acquire)), (16 << 10, 0));
    let waiting = tokio::spawn(async move {
        hold.claim(40 * MB).await;
        hold
    });
    while memory.waiting.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    drop(other);
    let mut hold = waiting.await.unwrap();
    assert_eq!(hold.bytes(), 40 * MB);
    hold.claim(MB).await;
    assert_eq!(hold.bytes(), 40 * MB, "less is no request to give back");
    drop(hold);
    assert_eq!(memory.used(), memory.base);
}
