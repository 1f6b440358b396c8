//! What a taker asks of the giver: when it stops, where no allocator says so; and the series of its last scrape.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use promring_model::handover::MoveId;
use promring_model::target::TargetKey;
use promring_net::clock::now_ms;
use tokio::sync::Semaphore;

use super::given::{ANSWER_BYTES_MAX, read_answer};
use crate::Scraper;

/// Questions that are under way at a time.
const QUESTIONS_MAX: usize = 8;

/// So long after T the giver's last scrape must be over; who has not told its series by then is not asked again, in milliseconds.
const ASK_MS_MAX: i64 = 20_000;

/// What was asked for so far.
#[derive(Debug)]
pub(crate) struct Asking {
    /// Keys that are asked for or done, by move.
    keys: BTreeMap<MoveId, HashSet<TargetKey>>,
    permits: Arc<Semaphore>,
}

impl Default for Asking {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), permits: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }
}

/// A question for series.
struct Question {
    key: TargetKey,
    address: String,
    /// Until when it is put again where the giver's last scrape is not over.
    until_ms: i64,
}

impl Scraper {
    /// Asks for the series of keys that have come here.
    pub(super) fn ask_for_series(&self) {
        let questions = self.new_questions();
        for question in questions {
            self.shared.tending.metrics.asked.increment(1);
            let scraper = self.clone();
            tokio::spawn(async move { scraper.ask_series(question).await });
        }
    }

    fn new_questions(&self) -> Vec<Question> {
        let now_ms = now_ms();
        let mut asking = self.shared.tending.asking();
        self.shared.environment.gate.with(|member| {
            let begun = member.taking().filter_map(|(id, terms, from)| {
                from.filter(|from| *from <= now_ms).map(|from| (id, (terms.old_address.clone(), from)))
            });
            let begun: BTreeMap<MoveId, (String, i64)> = begun.collect();
            asking.keys.retain(|id, _| begun.contains_key(id));
            if begun.keys().all(|id| asking.keys.contains_key(id)) {
                // The keys of a move do not grow once it has begun, and one that is gone by then is gone already.
                return Vec::new();
            }
            let mut questions = Vec::new();
            let coming = member.keys().filter_map(|(key, grant)| Some((key, grant.incoming?)));
            for (key, id) in coming.chain(member.ended()) {
                let Some((id, (address, from))) = begun.get_key_value(&id) else { continue };
                if asking.keys.entry(*id).or_default().insert(key) {
                    questions.push(Question { key, address: address.clone(), until_ms: from + ASK_MS_MAX });
                }
            }
            for id in begun.keys() {
                asking.keys.entry(*id).or_default();
            }
            questions
        })
    }

    async fn ask_series(&self, question: Question) {
        let Question { key, address, until_ms } = question;
        let permits = Arc::clone(&self.shared.tending.asking().permits);
        loop {
            let permit = permits.acquire().await;
            let answer = self.shared.client.ask_giver(&address, key, ANSWER_BYTES_MAX).await;
            drop(permit);
            let error = match answer.and_then(read_answer) {
                Ok((word, series)) if word.ready => {
                    if self.shared.environment.gate.given.receive(key, series) {
                        return;
                    }
                    "too much has been told already".to_owned()
                }
                Ok(_) => "the last scrape there is not over".to_owned(),
                Err(error) => error,
            };
            if now_ms() >= until_ms {
                self.shared.tending.metrics.series_failed.increment(1);
                tracing::debug!(%key, address, error, "the series of the last scrape elsewhere cannot be had");
                return;
            }
            tokio::time::sleep(super::tend::INTERVAL).await;
        }
    }

    /// Asks givers when they stop, where no allocator says so.
    pub(super) fn ask_for_times(&self) {
        let gate = &self.shared.environment.gate;
        let asked = gate.with(|member| {
            let questions = member.questions(now_ms());
            let wanted: BTreeSet<MoveId> = questions.iter().map(|(id, _)| *id).collect();
            let mut key_of: BTreeMap<MoveId, TargetKey> = BTreeMap::new();
            if !wanted.is_empty() {
                let incoming = member.keys().filter_map(|(key, grant)| Some((grant.incoming?, key)));
                key_of.extend(incoming.filter(|(id, _)| wanted.contains(id)));
            }
            let with_key =
                questions.into_iter().filter_map(|(id, address)| Some((id, *key_of.get(&id)?, address)));
            with_key.collect::<Vec<_>>()
        });
        for (id, key, address) in asked {
            let scraper = self.clone();
            tokio::spawn(async move {
                let answer = scraper.shared.client.ask_giver(&address, key, ANSWER_BYTES_MAX).await;
                match answer.and_then(read_answer) {
                    Ok((word, _)) if word.id == id => {
                        tracing::info!(%id, until = word.until, "no allocator answers; the scraper before says when it stops");
                        let gate = &scraper.shared.environment.gate;
                        gate.with(|member| member.heard(id, word.until, now_ms()));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%id, address, error, "the scraper before does not say when it stops");
                    }
                }
            });
        }
    }
}
