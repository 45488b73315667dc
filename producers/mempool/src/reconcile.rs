//! Comparing what is known with the source's snapshots: when to ask, which differences count, what was lost.

use std::collections::{HashMap, HashSet};

use bitcoin::Txid;

use crate::block::Announced;
use crate::excused::Excused;
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

/// A snapshot whose differences are not confirmed yet.
#[derive(Clone, Debug)]
enum Look {
    /// Without numbers: the differences wait for a second snapshot that shows them too.
    Unconfirmed { suspects: HashMap<Txid, Difference> },
    /// With numbers: it is compared when all changes that it contains have come, or had time to.
    Settling {
        txids: Vec<Txid>,
        number: u64,
        /// Numbers that mined transactions had taken by then.
        silent: u64,
        settles_at: i64,
        /// What blocks have taken out since.
        taken_out: HashSet<Txid>,
    },
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
        let settling = matches!(self.look, Some(Look::Settling { .. }));
        let under_way = self.asked.is_some_and(|(at, _)| now < at + REQUEST_TIMEOUT_MS);
        if now >= self.next_at && !settling && !under_way {
            self.ask(now, out);
        }
    }

    /// When the snapshot under way was asked for; `now` where there is none.
    pub(crate) fn asked_at(&self, now: i64) -> i64 {
        self.asked.map_or(now, |(at, _)| at)
    }

    /// Something may be amiss: look soon. What waits for a reason, a second look or one after a reorg, does not come
    /// earlier.
    pub(crate) fn doubt(&mut self, now: i64) {
        if self.look.is_none() && !self.excused {
            self.next_at = self.next_at.min(now + DOUBT_MS);
        }
    }

    /// What was asked for and seen so far is from before something that it must include.
    pub(crate) fn start_over(&mut self, now: i64) {
        self.round += 1;
        self.look = None;
        // Late enough that what it brought is no longer among the changes that a snapshot is not blamed for.
        self.next_at = now + FEED_LAG_MS + DOUBT_MS;
    }

    /// A reorg or a restart: the next differences are its doing.
    pub(crate) fn excuse_all(&mut self, now: i64) {
        self.excused = true;
        self.start_over(now);
    }

    /// The feed has told of a transaction: what an unnumbered snapshot said about it is outdated.
    pub(crate) fn touched(&mut self, txid: &Txid) {
        if let Some(Look::Unconfirmed { suspects }) = &mut self.look {
            suspects.remove(txid);
        }
    }

    /// A block has taken a transaction out: what any snapshot said about it is outdated.
    pub(crate) fn taken_out(&mut self, txid: &Txid) {
        match &mut self.look {
            Some(Look::Unconfirmed { suspects }) => drop(suspects.remove(txid)),
            Some(Look::Settling { taken_out, .. }) => drop(taken_out.insert(*txid)),
            None => {}
        }
    }

    /// A transaction announced with this number has been mined: before, where it is announced again, else after. The
    /// silent number is the snapshot's, where the snapshot is younger.
    pub(crate) fn mined(&mut self, txid: &Txid, sequence: Option<u64>, announced: Announced) {
        if let Some(Look::Settling { number, silent, taken_out, .. }) = &mut self.look
            && sequence.is_some_and(|sequence| sequence <= *number)
            && (announced == Announced::Again || !taken_out.contains(txid))
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
        if self.phase == Phase::Loading {
            self.load(now, asked_at, txids, sequence, out);
        } else if let Some(number) = sequence {
            self.look_at(now, txids, number, out);
        } else {
            self.confirm(now, asked_at, &txids, out);
        }
    }

    /// The first snapshot: all of it is news, none of it a loss.
    fn load(
        &mut self,
        now: i64,
        asked_at: i64,
        txids: Vec<Txid>,
        sequence: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        let since = sequence.map_or(Since::Time(asked_at - FEED_LAG_MS), Since::Number);
        let Some(mut differences) = self.compare(now, &txids, since, &HashSet::new()) else { return };
        if sequence.is_none() {
            // What came meanwhile may be younger than the snapshot.
            differences.retain(|_, difference| *difference == Difference::Missing);
        }
        self.reconcile.excused = true;
        self.conclude(now, differences, sequence.map(|number| (number, self.numbers.silent())), out);
        self.phase = Phase::Following;
        if sequence.is_none() {
            // What the feed told meanwhile, and for as long as it may be behind, may be older than the snapshot or
            // younger: the comparison after it tells. That is no loss; whatever else differs by then is one.
            self.young_until = now + FEED_LAG_MS;
            self.reconcile.start_over(now);
        }
    }

    /// A snapshot without a number: the first of a pair, or the one that confirms.
    fn confirm(&mut self, now: i64, asked_at: i64, txids: &[Txid], out: &mut Vec<Output>) {
        let since = Since::Time(asked_at - FEED_LAG_MS);
        let Some(mut fresh) = self.compare(now, txids, since, &HashSet::new()) else { return };
        let before = match self.reconcile.look.take() {
            Some(Look::Unconfirmed { suspects }) => Some(suspects),
            _ => None,
        };
        if before.is_some() || fresh.is_empty() {
            let before = before.unwrap_or_default();
            let confirmed =
                fresh.extract_if(|txid, difference| before.get(txid) == Some(difference)).collect();
            self.conclude(now, confirmed, None, out);
        }
        if asked_at - FEED_LAG_MS >= self.young_until && fresh.is_empty() {
            self.young = Excused::default();
        }
        if !fresh.is_empty() {
            self.reconcile.look = Some(Look::Unconfirmed { suspects: fresh });
            self.reconcile.next_at = now + CONFIRM_MS;
        }
    }

    /// A snapshot with a number. The last numbers may be those of mined transactions, and nothing to wait for.
    fn look_at(&mut self, now: i64, txids: Vec<Txid>, number: u64, out: &mut Vec<Output>) {
        let silent = self.numbers.silent();
        let Some(differences) = self.compare(now, &txids, Since::Number(number), &HashSet::new()) else {
            return;
        };
        let accounted = differences.is_empty() && self.numbers.is_accounted(number, silent);
        if accounted || self.numbers.has_reached(number) {
            self.conclude(now, differences, Some((number, silent)), out);
        } else {
            let settles_at = now + SETTLE_MS;
            self.reconcile.look =
                Some(Look::Settling { txids, number, silent, settles_at, taken_out: HashSet::new() });
        }
    }

    /// Ends the look at a numbered snapshot once all changes that it contains have come, or had time to.
    pub(crate) fn settle(&mut self, now: i64, out: &mut Vec<Output>) {
        let Some(Look::Settling { number, silent, settles_at, .. }) = &self.reconcile.look else { return };
        let (number, silent, settled) = (*number, *silent, now >= *settles_at);
        if !settled && !self.numbers.has_reached(number) {
            return;
        }
        if let Some(Look::Settling { txids, taken_out, .. }) = self.reconcile.look.take()
            && let Some(differences) = self.compare(now, &txids, Since::Number(number), &taken_out)
        {
            self.conclude(now, differences, Some((number, silent)), out);
        }
    }

    /// The differences between what is known and a snapshot, without those that the feed or a block has touched since.
    /// `None` where not all of these are remembered: another snapshot will tell.
    fn compare(
        &mut self,
        now: i64,
        txids: &[Txid],
        since: Since,
        taken_out: &HashSet<Txid>,
    ) -> Option<HashMap<Txid, Difference>> {
        let Some(touched) = self.recent.since(since) else {
            self.reconcile.next_at = now + DOUBT_MS;
            return None;
        };
        let outdated = |txid: &Txid| touched.contains(txid) || taken_out.contains(txid);
        let snapshot: HashSet<&Txid> = txids.iter().collect();
        let (mut differences, mut unanswered) = (HashMap::new(), Vec::new());
        for (txid, state) in self.view.present() {
            match snapshot.contains(txid) {
                _ if outdated(txid) => {}
                false => drop(differences.insert(*txid, Difference::Phantom)),
                true if state == State::Gone => unanswered.push(*txid),
                true => {}
            }
        }
        for txid in txids {
            if !self.view.is_present(txid) && !outdated(txid) {
                differences.insert(*txid, Difference::Missing);
            }
        }
        unanswered.into_iter().for_each(|txid| self.want_body(txid));
        Some(differences)
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
        let is_excused = |txid: &Txid| self.excused.take(txid) || self.young.contains(txid);
        let excused: HashSet<Txid> = differences.iter().map(|(txid, _)| *txid).filter(is_excused).collect();
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
        // The first snapshot makes a gap before it good without restoring anything.
        let under_repair = !self.gaps.open.is_empty() && self.phase == Phase::Following;
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
