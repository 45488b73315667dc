//! What `sluice status` shows.

use std::time::Duration;

use indicatif::HumanDuration;
use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_log::chain::ChainLog;
use sluice_runtime::status;
use sluice_runtime::status::gaps::Gaps;
use sluice_runtime::status::groups::{self, Group};
use sluice_schemas::{ChainEvent, StatusEvent};

use crate::output::{count, table};

/// Where everything stands.
pub(super) struct Report {
    log: String,
    prefix: String,
    now: Timestamp,
    tail: Option<ChainEvent>,
    /// The last status event.
    last: Option<StatusEvent>,
    gaps: Gaps,
    groups: Vec<Group>,
}

impl Report {
    pub(super) fn make(
        chain: &ChainLog,
        stuck_after: Duration,
        watch: Duration,
        now: impl Fn() -> Timestamp,
    ) -> anyhow::Result<Self> {
        let tail = chain.tail()?;
        let (last, gaps) = status_events(chain)?;
        let groups = groups::look(chain, tail.as_ref(), stuck_after, watch, || now().as_millisecond())?;
        let (log, prefix) = (chain.log.url().to_owned(), chain.topics.prefix.clone());
        Ok(Self { log, prefix, now: now(), tail, last, gaps, groups })
    }

    fn ago(&self, millisecond: i64) -> String {
        let millis = self.now.as_millisecond().saturating_sub(millisecond);
        format!("{} ago", HumanDuration(Duration::from_millis(u64::try_from(millis).unwrap_or(0))))
    }

    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("{} on {}", self.prefix, self.log)];
        match &self.tail {
            None => lines.push("  log      no blocks yet".to_owned()),
            Some(tail) => {
                let (height, hash) = tail.tip();
                lines.push(format!(
                    "  log      height {} {hash}, published {}, sequence {}, epoch {}",
                    count(u64::try_from(height).unwrap_or(0)),
                    self.ago(tail.observed_at),
                    count(u64::try_from(tail.sequence).unwrap_or(0)),
                    tail.epoch
                ));
            }
        }
        match &self.last {
            None => lines.push("  source   no sign of life kept".to_owned()),
            Some(last) => {
                let height = match last.source_height {
                    Some(height) => format!("height {}", count(u64::try_from(height).unwrap_or(0))),
                    None => "height unknown".to_owned(),
                };
                lines.push(format!(
                    "  source   {height}, {}, last sign of life {}",
                    printable(&last.source),
                    self.ago(last.observed_at)
                ));
            }
        }
        lines.push(format!(
            "  gaps     {} found lately, {} repaired, {} open",
            self.gaps.detected,
            self.gaps.repaired,
            self.gaps.open.len()
        ));
        for gap in &self.gaps.open {
            let number = |number: Option<i64>| number.map_or("?".to_owned(), |number| number.to_string());
            lines.push(format!(
                "           {} {}..={}, found {}",
                printable(&gap.feed),
                number(gap.from),
                number(gap.to),
                self.ago(gap.detected_at)
            ));
        }
        lines.push(String::new());
        lines.push(self.group_table());
        lines.join("\n")
    }

    fn group_table(&self) -> String {
        if self.groups.is_empty() {
            return "no group of consumers has committed anything yet".to_owned();
        }
        let mut rows = vec![
            ["GROUP", "STATE", "MEMBERS", "HEIGHT", "BLOCKS BEHIND", "TIME BEHIND"]
                .map(str::to_owned)
                .to_vec(),
        ];
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        for group in &self.groups {
            rows.push(vec![
                printable(&group.name),
                group.state.name().to_owned(),
                group.members.to_string(),
                number(group.height.map(i64::from)),
                number(group.blocks_behind),
                if group.behind.is_zero() { "-".to_owned() } else { HumanDuration(group.behind).to_string() },
            ]);
        }
        table(&rows)
    }

    pub(super) fn json(&self) -> Value {
        let tail = self.tail.as_ref().map(|tail| {
            let (height, hash) = tail.tip();
            json!({
                "height": height,
                "hash": hash.to_string(),
                "time": rfc3339(tail.time),
                "observed_at": rfc3339(tail.observed_at),
                "sequence": tail.sequence,
                "epoch": tail.epoch,
            })
        });
        let source = self.last.as_ref().map(|last| {
            json!({
                "source": last.source,
                "height": last.source_height,
                "epoch": last.epoch,
                "last_sign_of_life": rfc3339(last.observed_at),
                "seconds_since": self.now.as_millisecond().saturating_sub(last.observed_at).max(0) / 1000,
            })
        });
        let open = self.gaps.open.iter().map(|gap| {
            json!({"feed": gap.feed, "from": gap.from, "to": gap.to, "detected_at": rfc3339(gap.detected_at)})
        });
        let groups = self.groups.iter().map(|group| {
            json!({
                "group": group.name,
                "state": group.state.name(),
                "members": group.members,
                "height": group.height,
                "blocks_behind": group.blocks_behind,
                "seconds_behind": group.behind.as_secs(),
            })
        });
        json!({
            "log": self.log,
            "prefix": self.prefix,
            "tip": tail,
            "source": source,
            "gaps": {
                "detected": self.gaps.detected,
                "repaired": self.gaps.repaired,
                "open": open.collect::<Vec<_>>(),
            },
            "groups": groups.collect::<Vec<_>>(),
        })
    }
}

/// The last status event, and what the newest ones told of gaps.
fn status_events(chain: &ChainLog) -> anyhow::Result<(Option<StatusEvent>, Gaps)> {
    let (mut last, mut gaps) = (None, Gaps::default());
    for located in status::events(chain, None)? {
        let event = located?.event;
        gaps.told(&event);
        last = Some(event);
    }
    Ok((last, gaps))
}

fn rfc3339(millisecond: i64) -> Value {
    Timestamp::from_millisecond(millisecond).map_or(Value::from(millisecond), |time| time.to_string().into())
}

/// A text from outside without control characters, so that it cannot move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
