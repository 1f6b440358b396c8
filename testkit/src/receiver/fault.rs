//! What a receiver does to requests instead of storing them, or while it does.

use promring_model::hash::FieldHasher;
use serde::{Deserialize, Serialize};

/// Most rules at a time.
pub const FAULTS_MAX: usize = 16;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The request is answered with this status, and nothing is stored.
    Status {
        /// 400, 429, 500, ….
        code: u16,
        /// Value of a `Retry-After` field, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u64>,
    },
    /// The request is read and never answered; nothing is stored.
    Hang,
    /// The connection is reset; nothing is stored.
    Reset,
    /// The request is stored, and the connection is reset before the answer: the sender cannot know.
    AckLost,
    /// The request is stored and answered, this late.
    Slow {
        /// Milliseconds.
        delay_ms: u64,
    },
    /// A request of remote write 2.0 is answered with 415, and nothing is stored; requests of 1.0 are none of its business.
    NoV2,
    /// A request of remote write 2.0 is taken for one of 1.0, in which it is empty, as receivers do that do not look at
    /// its type: 204 without `X-Prometheus-Remote-Write-*-Written`, and nothing is stored.
    V2TakenForV1,
}

impl Fault {
    /// Whether requests of 1.0 are spared.
    fn is_of_v2(self) -> bool {
        match self {
            Self::NoV2 | Self::V2TakenForV1 => true,
            Self::Status { .. } | Self::Hang | Self::Reset | Self::AckLost | Self::Slow { .. } => false,
        }
    }
}

/// A fault, and which requests it befalls: all until the faults are cleared, unless limited.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// What happens.
    #[serde(flatten)]
    pub fault: Fault,
    /// To so many requests; after that the rule is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// To this part of the requests, 0 to 1, chosen by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// What chance begins with: the same seed chooses the same requests.
    #[serde(default)]
    pub seed: u64,
}

impl From<Fault> for FaultRule {
    fn from(fault: Fault) -> Self {
        Self { fault, requests: None, probability: None, seed: 0 }
    }
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There are [`FAULTS_MAX`] already.
    #[error("there are {FAULTS_MAX} faults already; clear them first")]
    TooMany,
    /// Outside 0 to 1.
    #[error("the probability must be 0 to 1")]
    Probability,
    /// Not an HTTP status with which a request is refused.
    #[error("the status must be 200 to 599")]
    Status,
}

/// The rules in force, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Active>,
}

#[derive(Debug)]
struct Active {
    rule: FaultRule,
    /// Requests that it was asked about: what chance goes by.
    asked: u64,
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// How long it waits first, in milliseconds.
    pub(super) delay_ms: u64,
    /// What happens then; None: it is stored.
    pub(super) fault: Option<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, rule: FaultRule) -> Result<(), FaultError> {
        if self.rules.len() >= FAULTS_MAX {
            return Err(FaultError::TooMany);
        }
        if rule.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
            return Err(FaultError::Probability);
        }
        if matches!(rule.fault, Fault::Status { code, .. } if !(200..600).contains(&code)) {
            return Err(FaultError::Status);
        }
        if rule.requests != Some(0) {
            self.rules.push(Active { rule, asked: 0 });
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    pub(super) fn rules(&self) -> Vec<FaultRule> {
        self.rules.iter().map(|active| active.rule).collect()
    }

    /// What befalls the next request: all delays of the rules before the first that does more, and that one. `v2`: it says
    /// that it is one of remote write 2.0.
    pub(super) fn next(&mut self, v2: bool) -> Fate {
        let mut fate = Fate::default();
        for active in self.rules.iter_mut().filter(|active| v2 || !active.rule.fault.is_of_v2()) {
            if !active.fires() {
                continue;
            }
            match active.rule.fault {
                Fault::Slow { delay_ms } => fate.delay_ms = fate.delay_ms.saturating_add(delay_ms),
                fault => {
                    fate.fault = Some(fault);
                    break;
                }
            }
        }
        self.rules.retain(|active| active.rule.requests != Some(0));
        fate
    }
}

impl Active {
    fn fires(&mut self) -> bool {
        self.asked += 1;
        let chosen = self.rule.probability.is_none_or(|probability| {
            let mut hasher = FieldHasher::new();
            hasher.field(&self.rule.seed.to_le_bytes()).field(&self.asked.to_le_bytes());
            // 53 bits are what a float tells apart.
            let chance = (hasher.finish64() >> 11) as f64 / (1_u64 << 53) as f64;
            chance < probability
        });
        if chosen && let Some(requests) = &mut self.rule.requests {
            *requests -= 1;
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Fault = Fault::Status { code: 500, retry_after_s: None };

    fn fates(rules: &[FaultRule], requests: usize) -> Vec<Option<Fault>> {
        let mut faults = Faults::default();
        rules.iter().for_each(|rule| faults.add(*rule).unwrap());
        (0..requests).map(|_| faults.next(false).fault).collect()
    }

    #[test]
    fn a_limited_fault_ends_by_itself() {
        let rule = FaultRule { requests: Some(2), ..REFUSED.into() };
        assert_eq!(fates(&[rule], 3), [Some(REFUSED), Some(REFUSED), None]);
        assert_eq!(fates(&[FaultRule { requests: Some(0), ..rule }], 1), [None]);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed_and_about_as_likely_as_told() {
        let rule = |seed| FaultRule { probability: Some(0.3), seed, ..Fault::Reset.into() };
        let one = fates(&[rule(1)], 2_000);
        assert_eq!(one, fates(&[rule(1)], 2_000));
        assert_ne!(one, fates(&[rule(2)], 2_000));
        let hit = one.iter().flatten().count();
        assert!((500..700).contains(&hit), "{hit} of 2,000");
    }

    #[test]
    fn delays_add_up_before_what_happens_then() {
        let mut faults = Faults::default();
        for fault in [Fault::Slow { delay_ms: 5 }, Fault::Slow { delay_ms: 7 }, Fault::Hang, Fault::Reset] {
            faults.add(fault.into()).unwrap();
        }
        assert_eq!(faults.next(false), Fate { delay_ms: 12, fault: Some(Fault::Hang) });
        faults.clear();
        assert_eq!(faults.next(false), Fate::default());
    }

    #[test]
    fn faults_of_2_0_spare_requests_of_1_0() {
        let mut faults = Faults::default();
        faults.add(FaultRule { requests: Some(1), ..Fault::NoV2.into() }).unwrap();
        faults.add(Fault::V2TakenForV1.into()).unwrap();
        assert_eq!(faults.next(false), Fate::default());
        assert_eq!(faults.next(true).fault, Some(Fault::NoV2), "the other request did not count");
        assert_eq!(faults.next(true).fault, Some(Fault::V2TakenForV1));
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        let mut faults = Faults::default();
        let rule = FaultRule { probability: Some(1.5), ..Fault::Hang.into() };
        assert_eq!(faults.add(rule), Err(FaultError::Probability));
        let rule = FaultRule::from(Fault::Status { code: 99, retry_after_s: None });
        assert_eq!(faults.add(rule), Err(FaultError::Status));
        (0..FAULTS_MAX).for_each(|_| faults.add(Fault::Hang.into()).unwrap());
        assert_eq!(faults.add(Fault::Hang.into()), Err(FaultError::TooMany));
    }

    #[test]
    fn rules_are_read_from_plain_json() {
        let rule: FaultRule =
            serde_json::from_str(r#"{"fault": "status", "code": 429, "retry_after_s": 1, "requests": 3}"#)
                .unwrap();
        let fault = Fault::Status { code: 429, retry_after_s: Some(1) };
        assert_eq!(rule, FaultRule { requests: Some(3), ..fault.into() });
        for (name, fault) in [("no_v2", Fault::NoV2), ("v2_taken_for_v1", Fault::V2TakenForV1)] {
            let rule: FaultRule = serde_json::from_str(&format!(r#"{{"fault": "{name}"}}"#)).unwrap();
            assert_eq!(rule, fault.into());
        }
    }
}
