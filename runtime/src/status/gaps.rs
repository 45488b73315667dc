//! Gaps in the source's feeds, as the status topic tells of them.

use sluice_schemas::{StatusEvent, StatusKind};

/// A gap that was found and not repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which feed had it.
    pub feed: String,
    /// First number lost.
    pub from: Option<i64>,
    /// Last number lost.
    pub to: Option<i64>,
    /// Milliseconds since the Unix epoch.
    pub detected_at: i64,
}

/// What the status events told of gaps so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Found so far.
    pub detected: u64,
    /// Of these, repaired since.
    pub repaired: u64,
    /// Not repaired.
    pub open: Vec<Gap>,
}

impl Gaps {
    /// Takes the next status event.
    pub fn told(&mut self, event: &StatusEvent) {
        let feed = event.feed.clone().unwrap_or_default();
        match event.kind {
            StatusKind::GapDetected => {
                self.detected += 1;
                self.open.push(Gap { feed, from: event.from, to: event.to, detected_at: event.observed_at });
            }
            StatusKind::GapRepaired => {
                let before = self.open.len();
                self.open.retain(|gap| gap.feed != feed || !covers(event, gap));
                self.repaired += (before - self.open.len()) as u64;
            }
            // The new producer's view starts with the node's whole mempool: nothing of the old gaps is left.
            StatusKind::Takeover => {
                self.repaired += self.open.len() as u64;
                self.open.clear();
            }
            _ => {}
        }
    }
}

/// Whether a repair mends a gap: a repair without numbers is of everything.
fn covers(repair: &StatusEvent, gap: &Gap) -> bool {
    match (repair.from, repair.to, gap.from, gap.to) {
        (Some(from), Some(to), Some(gap_from), Some(gap_to)) => from <= gap_from && gap_to <= to,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: StatusKind, feed: &str, numbers: Option<(i64, i64)>) -> StatusEvent {
        StatusEvent {
            kind,
            source: "node".into(),
            epoch: 1,
            tip_hash: None,
            tip_height: None,
            chain_sequence: -1,
            source_height: None,
            feed: Some(feed.into()),
            from: numbers.map(|(from, _)| from),
            to: numbers.map(|(_, to)| to),
            recovered: None,
            detail: String::new(),
            observed_at: 0,
        }
    }

    fn open(events: &[StatusEvent]) -> usize {
        let mut gaps = Gaps::default();
        events.iter().for_each(|event| gaps.told(event));
        gaps.open.len()
    }

    #[test]
    fn a_gap_is_open_until_its_feed_is_repaired() {
        let found = event(StatusKind::GapDetected, "sequence", Some((5, 9)));
        assert_eq!(open(std::slice::from_ref(&found)), 1);
        assert_eq!(open(&[found.clone(), event(StatusKind::GapRepaired, "hashblock", None)]), 1);
        assert_eq!(open(&[found.clone(), event(StatusKind::GapRepaired, "sequence", Some((5, 8)))]), 1);
        assert_eq!(open(&[found.clone(), event(StatusKind::GapRepaired, "sequence", Some((5, 9)))]), 0);
        assert_eq!(open(&[found.clone(), event(StatusKind::GapRepaired, "sequence", None)]), 0);
        assert_eq!(open(&[found, event(StatusKind::Takeover, "", None)]), 0);
    }
}
