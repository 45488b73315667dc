//! Comparing what is known with the source's snapshots: when to ask, which differences count, what was lost.

use std::collections::{HashMap, HashSet};

use bitcoin::Txid;

use crate::mempool::{Mempool, Phase};
use crate::recent::Since;
use crate::view::State;
use crate::{
    CONFIRM_MS, DOUBT_MS, FEED_LAG_MS, Lost, MAX_OPEN_GAPS, Output, REQUEST_TIMEOUT_MS, SEQUENCE_FEED,
    SETTLE_MS, SNAPSHOT_FEED,
};

/// How a transaction differs between the view and a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// The source has it, the view does not.
    Missing,
    /// The view has it, the source does not.
    Phantom,
}

/// Differences that are not confirmed yet.
#[derive(Clone, Debug)]
struct Look {
    suspects: HashMap<Txid, Difference>,
    /// The snapshot's number, and the numbers that mined transactions had taken by then.
    numbered: Option<(u64, u64)>,
    /// When the differences count even if numbered changes are still to come.
    settles_at: i64,
}

/// When snapshots are wanted, and what the last one left open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reconcile {
    /// When the snapshot under way was asked for, and in which round.
    asked: Option<(i64, u64)>,
    /// Counts up when what was asked for is of no more use.
    round: u64,
    next_at: i64,
    look: Option<Look>,
    /// Whether the differences of the next comparison are no losses.
    excused: bool,
}

impl Reconcile {
    pub(crate) fn ask(&mut self, now: i64, out: &mut Vec<Output>) {
        self.asked = Some((now, self.round));
        out.push(Output::WantSnapshot);
    }

    pub(crate) fn ask_if_due(&mut self, now: i64, out: &mut Vec<Output>) {
        let settling = self.look.as_ref().is_some_and(|look| look.numbered.is_some());
        let under_way = self.asked.is_some_and(|(at, _)| now < at + REQUEST_TIMEOUT_MS);
        if now >= self.next_at && !settling && !under_way {
            self.ask(now, out);
        }
    }

    /// When the snapshot under way was asked for; `now` where there is none.
    pub(crate) fn asked_at(&self, now: i64) -> i64 {
        self.asked.map_or(now, |(at, _)| at)
    }

    /// Something may be amiss: look soon.
    pub(crate) fn doubt(&mut self, now: i64) {
        self.next_at = self.next_at.min(now + DOUBT_MS);
    }

    /// What was asked for and seen so far is from before something that it must include.
    pub(crate) fn start_over(&mut self, now: i64) {
        self.round += 1;
        self.look = None;
        self.doubt(now);
    }

    /// A reorg or a restart: the next differences are its doing.
    pub(crate) fn excuse_all(&mut self, now: i64) {
        self.excused = true;
        self.start_over(now);
    }

    /// The feed or a block has told of a transaction: what a snapshot said about it is outdated, unless it contains the
    /// change.
    pub(crate) fn touched(&mut self, txid: &Txid, _sequence: Option<u64>) {
        if let Some(look) = &mut self.look {
            look.suspects.remove(txid);
        }
    }

    /// A transaction announced with this number had been mined: its second number, that of the block, is silent.
    pub(crate) fn mined_before(&mut self, sequence: Option<u64>) {
        if let Some(Look { numbered: Some((number, silent)), .. }) = &mut self.look
            && sequence.is_some_and(|sequence| sequence <= *number)
        {
            *silent += 1;
        }
    }
}

/// A gap that was announced.
#[derive(Clone, Debug)]
struct Gap {
    feed: &'static str,
    lost: Lost,
    /// Whether the comparison that repairs it was made.
    compared: bool,
}

/// The gaps under repair.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    open: Vec<Gap>,
    /// Transactions whose bodies the repair waits for.
    pub(crate) awaited: usize,
    /// Published changes that the repair made.
    pub(crate) recovered: u64,
}

impl Gaps {
    pub(crate) fn detected(&mut self, feed: &'static str, lost: Lost, out: &mut Vec<Output>) {
        out.push(Output::GapDetected { feed, lost });
        if self.open.len() < MAX_OPEN_GAPS {
            self.open.push(Gap { feed, lost, compared: false });
        }
    }

    /// Announces the repair once all that is awaited has come.
    pub(crate) fn close(&mut self, out: &mut Vec<Output>) {
        if self.awaited > 0 {
            return;
        }
        for gap in self.open.extract_if(.., |gap| gap.compared) {
            let recovered = std::mem::take(&mut self.recovered);
            out.push(Output::GapRepaired { feed: gap.feed, lost: gap.lost, recovered });
        }
    }
}

impl Mempool {
    pub(crate) fn snapshot(
        &mut self,
        now: i64,
        txids: Vec<Txid>,
        sequence: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        let Some((asked_at, round)) = self.reconcile.asked.take() else { return };
        if round != self.reconcile.round || sequence.is_some_and(|number| self.numbers.is_old(number)) {
            return;
        }
        let since = sequence.map_or(Since::Time(asked_at - FEED_LAG_MS), Since::Number);
        let Some(touched) = self.recent.since(since) else {
            self.reconcile.next_at = now + DOUBT_MS;
            return;
        };
        let suspects = self.compare(txids, &touched);
        match (self.phase, sequence) {
            (Phase::Loading, _) => {
                self.phase = Phase::Following;
                self.reconcile.excused = true;
                let first = |(_, difference): &(Txid, Difference)| {
                    sequence.is_some() || *difference == Difference::Missing
                };
                let suspects = suspects.into_iter().filter(first).collect();
                self.conclude(now, suspects, sequence.map(|number| (number, self.numbers.silent())), out);
                if sequence.is_none() {
                    self.reconcile.doubt(now);
                }
            }
            (_, Some(number)) => {
                let numbered = Some((number, self.numbers.silent()));
                self.reconcile.look = Some(Look { suspects, numbered, settles_at: now + SETTLE_MS });
                self.settle(now, out);
            }
            (_, None) => match self.reconcile.look.take() {
                None if suspects.is_empty() => self.conclude(now, suspects, None, out),
                None => {
                    self.reconcile.look = Some(Look { suspects, numbered: None, settles_at: i64::MAX });
                    self.reconcile.next_at = now + CONFIRM_MS;
                }
                Some(look) => {
                    let confirmed =
                        |(txid, difference): &(Txid, Difference)| look.suspects.get(txid) == Some(difference);
                    let (confirmed, fresh): (HashMap<_, _>, HashMap<_, _>) =
                        suspects.into_iter().partition(confirmed);
                    self.conclude(now, confirmed, None, out);
                    if !fresh.is_empty() {
                        self.reconcile.look =
                            Some(Look { suspects: fresh, numbered: None, settles_at: i64::MAX });
                        self.reconcile.next_at = now + CONFIRM_MS;
                    }
                }
            },
        }
    }

    /// The differences between what is known and a snapshot, without those that the feed has touched since.
    fn compare(&mut self, txids: Vec<Txid>, touched: &HashSet<Txid>) -> HashMap<Txid, Difference> {
        let snapshot: HashSet<Txid> = txids.into_iter().collect();
        let mut suspects = HashMap::new();
        let mut unanswered = Vec::new();
        for (txid, state) in self.view.present() {
            if touched.contains(txid) {
                continue;
            }
            match snapshot.contains(txid) {
                false => drop(suspects.insert(*txid, Difference::Phantom)),
                true if state == State::Gone => unanswered.push(*txid),
                true => {}
            }
        }
        for txid in snapshot {
            if !self.view.is_present(&txid) && !touched.contains(&txid) {
                suspects.insert(txid, Difference::Missing);
            }
        }
        unanswered.into_iter().for_each(|txid| self.want_body(txid));
        suspects
    }

    /// Ends the look at a numbered snapshot once all changes that it contains have come, or had time to.
    pub(crate) fn settle(&mut self, now: i64, out: &mut Vec<Output>) {
        let Some(Look { suspects, numbered: Some((number, silent)), settles_at }) = &self.reconcile.look
        else {
            return;
        };
        let complete = self.numbers.has_reached(*number)
            || (suspects.is_empty() && self.numbers.is_accounted(*number, *silent));
        if complete || now >= *settles_at {
            let numbered = Some((*number, *silent));
            let suspects = self.reconcile.look.take().map(|look| look.suspects).unwrap_or_default();
            self.conclude(now, suspects, numbered, out);
        }
    }

    /// Repairs confirmed differences, and announces them where nothing else explains them.
    fn conclude(
        &mut self,
        now: i64,
        differences: HashMap<Txid, Difference>,
        numbered: Option<(u64, u64)>,
        out: &mut Vec<Output>,
    ) {
        let numbers = numbered.and_then(|(number, silent)| self.numbers.close(number, silent));
        let mut differences: Vec<_> = differences.into_iter().collect();
        differences.sort_unstable_by_key(|(txid, _)| *txid);
        let excused_all = std::mem::take(&mut self.reconcile.excused);
        let excused: HashSet<Txid> =
            differences.iter().map(|(txid, _)| *txid).filter(|txid| self.excused.take(txid)).collect();
        if !excused_all && self.gaps.open.is_empty() {
            let counts = |(txid, difference): &&(Txid, Difference)| {
                !excused.contains(txid)
                    && (*difference == Difference::Missing || self.view.is_published(txid))
            };
            let changes = differences.iter().filter(counts).count() as u64;
            match numbers {
                Some(lost) => {
                    let lost = Lost::Numbers { from: *lost.start(), to: *lost.end() };
                    self.gaps.detected(SEQUENCE_FEED, lost, out);
                }
                None if changes > 0 => self.gaps.detected(SNAPSHOT_FEED, Lost::Changes(changes), out),
                None => {}
            }
        }
        let under_repair = !self.gaps.open.is_empty();
        for (txid, difference) in differences {
            let repairs = under_repair && !excused.contains(&txid);
            match difference {
                Difference::Phantom => {
                    let published = self.remove_unexplained(now, txid, out);
                    self.gaps.recovered += u64::from(published && repairs);
                }
                Difference::Missing => self.take_missing(now, txid, repairs),
            }
        }
        self.gaps.open.iter_mut().for_each(|gap| gap.compared = true);
        self.gaps.close(out);
        self.reconcile.next_at = now + self.settings.reconcile_ms;
    }

    fn take_missing(&mut self, now: i64, txid: Txid, repairs: bool) {
        match self.view.state(&txid) {
            Some(State::Leaving { .. }) => self.view.stay(&txid),
            Some(_) => {}
            None if self.view.known() >= crate::MAX_TRANSACTIONS => {}
            None => {
                self.view.want(txid, now, repairs);
                self.gaps.awaited += usize::from(repairs);
                self.want_body(txid);
            }
        }
    }
}
