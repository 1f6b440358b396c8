//! Who has which target, as processes say it, and the audit of what they sent.

use std::collections::{BTreeMap, BTreeSet};

use promring_net::clock::now_ms;
use promring_testkit::audit::Report;
use promring_testkit::receiver::Receiver;
use serde_json::Value;

use crate::support::{eventually, get_json, scaled};

/// Which scraper has each target, by the target's address.
pub type Owners = BTreeMap<String, String>;

/// Targets that have another owner now.
pub fn moved(before: &Owners, after: &Owners) -> BTreeSet<String> {
    after
        .iter()
        .filter(|(target, owner)| before.get(*target) != Some(owner))
        .map(|(target, _)| target.clone())
        .collect()
}

/// Targets of one scraper.
pub fn of<'a>(owners: &'a Owners, scraper: &'a str) -> impl Iterator<Item = &'a String> {
    owners.iter().filter(move |(_, owner)| **owner == scraper).map(|(target, _)| target)
}

/// The targets that a process lists, each with the scraper that it names.
pub async fn listed(base: &str) -> Option<Owners> {
    let answer = get_json(&format!("{base}/api/v1/targets?state=active")).await?;
    let targets = answer["data"]["activeTargets"].as_array()?.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(targets.iter().map(|one| (text(&one["labels"]["instance"]), text(&one["scraper"]))).collect())
}

/// What the allocator says of its scrapers.
#[derive(Debug)]
pub struct Standing {
    /// Those that take targets, and have been told some.
    pub takers: BTreeSet<String>,
    /// Whether every one of them has an assignment, none is to get another one, and nothing moves.
    pub still: bool,
    /// Those that have been told to go for good.
    pub leaving: BTreeSet<String>,
    /// The steps of the hand-overs under way.
    pub steps: Vec<String>,
}

/// How the scrapers are, as the allocator says; None where it does not answer.
pub async fn standing(allocator: &str) -> Option<Standing> {
    let answer = get_json(&format!("{allocator}/api/v1/scrapers")).await?;
    let data = &answer["data"];
    let scrapers = data["scrapers"].as_array()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ready: Vec<&Value> = scrapers.iter().filter(|scraper| scraper["state"] == "ready").collect();
    let told = ready.iter().all(|scraper| scraper["version"].is_string());
    let steps: Vec<String> = data["moves"].as_array()?.iter().map(|one| text(&one["step"])).collect();
    Some(Standing {
        takers: ready.iter().map(|scraper| text(&scraper["name"])).collect(),
        still: data["ready"] == true && told && steps.is_empty(),
        leaving: scrapers.iter().filter(|one| one["leaving"] == true).map(|one| text(&one["name"])).collect(),
        steps,
    })
}

/// The audit of all slots up to now, once what is under way has had time to come: up to `under_way_ms`.
pub async fn audited(receiver: &Receiver, under_way_ms: i64) -> Report {
    let until_ms = now_ms();
    eventually("what is under way has arrived", async || {
        let late = now_ms() > until_ms + under_way_ms;
        (late || receiver.audit().gaps(until_ms) == 0).then_some(())
    })
    .await;
    let report = receiver.audit().report(until_ms);
    eprintln!("{} ms audited: {report}", until_ms - report.from_ms);
    report
}

/// Lets so many slots of a second pass.
pub async fn slots_pass(short: i64, full: i64) {
    let until_ms = now_ms() + scaled(short, full) * 1_000;
    eventually("some slots pass", async || (now_ms() >= until_ms).then_some(())).await;
}
