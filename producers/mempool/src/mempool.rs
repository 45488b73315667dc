//! The state machine: one input in, outputs out.

use bitcoin::{BlockHash, OutPoint, Txid};
use sluice_schemas::{Flavour, RemovalReason, Transaction};

use crate::block::{Announced, RecentBlocks};
use crate::excused::Excused;
use crate::fetch::Fetch;
use crate::numbers::{Arrival, Numbers};
use crate::recent::Recent;
use crate::reconcile::{Gaps, Reconcile};
use crate::view::{State, View};
use crate::{
    BlockEffect, FEED_LAG_MS, HOLD_REMOVAL_MS, Input, Lost, MAX_HELD_REMOVALS, MAX_TRANSACTIONS, Output,
    REQUEST_TIMEOUT_MS, Settings, TipTime,
};

/// Below it a lock time is a height, from it on a time (`LOCKTIME_THRESHOLD`).
const LOCK_TIME_THRESHOLD: i64 = 500_000_000;
/// Sequence of an input that ignores the lock time.
const SEQUENCE_FINAL: i64 = 0xffff_ffff;

/// How far the view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is followed.
    Suspended,
    /// The first snapshot is awaited.
    Loading,
    /// Snapshot and changes are followed.
    Following,
}

/// The mempool of one source. See the crate for what it does.
#[derive(Clone, Debug)]
pub struct Mempool {
    pub(crate) settings: Settings,
    pub(crate) phase: Phase,
    pub(crate) view: View,
    pub(crate) numbers: Numbers,
    pub(crate) recent: Recent,
    pub(crate) fetch: Fetch,
    pub(crate) excused: Excused,
    /// Transactions that the feed told of while the view was young: it may be behind what was there before it.
    pub(crate) young: Excused,
    /// Until when the view is young, where its source does not number its changes.
    pub(crate) young_until: i64,
    pub(crate) reconcile: Reconcile,
    pub(crate) gaps: Gaps,
    blocks: RecentBlocks,
    tip: TipTime,
}

impl Mempool {
    /// A suspended view; `Input::Start` begins.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            phase: Phase::Suspended,
            view: View::default(),
            numbers: Numbers::default(),
            recent: Recent::default(),
            fetch: Fetch::default(),
            excused: Excused::default(),
            young: Excused::default(),
            young_until: i64::MAX,
            reconcile: Reconcile::default(),
            gaps: Gaps::default(),
            blocks: RecentBlocks::default(),
            tip: TipTime::default(),
        }
    }

    /// Whether a transaction is published as added and not yet as removed.
    pub fn contains(&self, txid: &Txid) -> bool {
        self.view.is_published(txid)
    }

    /// The published transaction that spends an output.
    pub fn spender_of(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.view.spender_of(outpoint)
    }

    /// Transactions published as added and not yet as removed.
    pub fn len(&self) -> usize {
        self.view.published()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Transactions that the source has and whose bodies are still to come.
    pub fn awaited(&self) -> usize {
        self.view.known() - self.view.published()
    }

    /// Whether the mempool is followed: started, and not suspended.
    pub fn is_following(&self) -> bool {
        self.phase != Phase::Suspended
    }

    pub(crate) fn knows(&self, txid: &Txid) -> bool {
        self.view.get(txid).is_some()
    }

    /// Takes what happened and says what is to be done, in order. `now` are milliseconds that never go back.
    pub fn apply(&mut self, now: i64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Start(tip) => self.start(now, tip, &mut out),
            Input::Suspend => *self = Self::new(self.settings),
            _ if self.phase == Phase::Suspended => {}
            Input::Added { txid, sequence, transaction } => {
                self.added(now, txid, sequence, transaction, &mut out)
            }
            Input::Removed { txid, sequence, reason, by } => {
                self.removed(now, txid, sequence, reason, by, &mut out);
            }
            Input::Gap { feed, from, to } => {
                self.gaps.detected(feed, Lost::Numbers { from, to }, &mut out);
                self.reconcile.start_over(now);
            }
            Input::Restarted => {
                self.numbers = Numbers::default();
                self.recent = Recent::default();
                self.reconcile.excuse_all(now);
            }
            Input::Snapshot { txids, sequence } => self.snapshot(now, txids, sequence, &mut out),
            Input::Fetched(bodies) => self.fetched(now, bodies, &mut out),
            Input::BlockConnected(effect) => self.connected(now, &effect, &mut out),
            Input::BlockDisconnected(tip) => {
                self.disconnected(now, tip);
            }
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn start(&mut self, now: i64, tip: TipTime, out: &mut Vec<Output>) {
        *self = Self::new(self.settings);
        self.phase = Phase::Loading;
        self.tip = tip;
        out.push(Output::Reset);
        self.reconcile.ask(now, out);
    }

    fn added(
        &mut self,
        now: i64,
        txid: Txid,
        sequence: Option<u64>,
        transaction: Option<Box<Transaction>>,
        out: &mut Vec<Output>,
    ) {
        if transaction.as_ref().is_some_and(|transaction| transaction.coinbase)
            || !self.touch(now, txid, sequence)
        {
            return;
        }
        // Announced again, it was mined meanwhile and came back by a reorg. Announced after its block was published,
        // the feed is behind. Either way its number in the block is silent, and what a snapshot says is no loss.
        let mined = self.blocks.announced(&txid);
        let present = self.view.is_present(&txid);
        if let Some(announced) = mined.or(present.then_some(Announced::Again)) {
            self.numbers.mined(1);
            self.reconcile.mined(&txid, sequence, announced);
            self.excused.insert(txid);
        }
        if mined.is_none() || present {
            self.take_in(now, txid, transaction, out);
        }
    }

    fn take_in(
        &mut self,
        now: i64,
        txid: Txid,
        transaction: Option<Box<Transaction>>,
        out: &mut Vec<Output>,
    ) {
        match self.view.state(&txid) {
            Some(State::Leaving { .. }) => self.view.stay(&txid),
            Some(State::Published) => {}
            None if self.view.known() >= MAX_TRANSACTIONS => self.reconcile.doubt(now),
            _ => {
                self.view.want(txid, now, false);
                match transaction {
                    Some(transaction) => self.publish(transaction, out),
                    None => self.want_body(txid),
                }
            }
        }
    }

    fn removed(
        &mut self,
        now: i64,
        txid: Txid,
        sequence: Option<u64>,
        reason: Option<RemovalReason>,
        by: Option<Txid>,
        out: &mut Vec<Output>,
    ) {
        if !self.touch(now, txid, sequence) {
            return;
        }
        match (self.view.state(&txid), reason) {
            (Some(State::Published), None) => {
                self.view.leave(txid, now);
                if self.view.leaving() > MAX_HELD_REMOVALS
                    && let Some((_, oldest)) = self.view.oldest_leaving()
                {
                    self.remove_unexplained(now, oldest, out);
                }
            }
            (Some(State::Leaving { .. }), None) | (None, _) => {}
            (Some(_), reason) => {
                self.remove(txid, reason.unwrap_or(RemovalReason::Unknown), None, by, out);
            }
        }
    }

    /// Notes a change told by the feed. `false` where it is no news: a snapshot had it, or it came before.
    fn touch(&mut self, now: i64, txid: Txid, sequence: Option<u64>) -> bool {
        match sequence.map(|number| self.numbers.arrived(number)) {
            Some(Arrival::Stale) => return false,
            Some(Arrival::AfterHole) => self.reconcile.doubt(now),
            Some(Arrival::Fresh) | None => {}
        }
        if sequence.is_none() && now < self.young_until {
            self.young.insert(txid);
        }
        self.recent.push(now, sequence, txid);
        self.reconcile.touched(&txid);
        true
    }

    fn connected(&mut self, now: i64, effect: &BlockEffect, out: &mut Vec<Output>) {
        self.tip = effect.tip;
        let (mut mined, mut known, mut unknown) = (0, Vec::new(), Vec::new());
        for txid in effect.mined.iter().chain(&effect.unseen) {
            self.reconcile.taken_out(txid);
            mined += u64::from(self.view.is_present(txid));
            if self.knows(txid) {
                known.push(*txid)
            } else {
                unknown.push(*txid)
            }
            self.remove(*txid, RemovalReason::Mined, Some(effect.hash), None, out);
        }
        self.numbers.mined(mined);
        for (rival, by) in &effect.conflicts {
            if !self.knows(rival) {
                continue;
            }
            for txid in self.view.family(*rival) {
                self.reconcile.taken_out(&txid);
                self.remove(txid, RemovalReason::Conflicted, None, Some(*by), out);
                known.push(txid);
            }
        }
        self.blocks.connected(known.into_iter(), unknown.into_iter());
        self.reconcile.doubt(now);
    }

    fn disconnected(&mut self, now: i64, tip: TipTime) {
        self.tip = tip;
        for txid in self.blocks.disconnected() {
            if self.view.state(&txid).is_none() {
                self.view.want(txid, now, false);
                self.want_body(txid);
            }
        }
        self.reconcile.excuse_all(now);
    }

    fn fetched(&mut self, now: i64, bodies: Vec<(Txid, Option<Box<Transaction>>)>, out: &mut Vec<Output>) {
        for (txid, body) in bodies {
            if !matches!(self.view.state(&txid), Some(State::Wanted | State::Gone)) {
                continue;
            }
            match body.filter(|transaction| transaction.txid == txid) {
                Some(transaction) => self.publish(transaction, out),
                None => self.gone(&txid, out),
            }
        }
        let view = &self.view;
        self.fetch.answered(|txid| view.state(txid) == Some(State::Wanted));
        self.pump(now, out);
    }

    fn tick(&mut self, now: i64, out: &mut Vec<Output>) {
        while let Some((since, txid)) = self.view.oldest_leaving()
            && now >= since + HOLD_REMOVAL_MS
        {
            self.remove_unexplained(now, txid, out);
        }
        self.settle(now, out);
        self.reconcile.ask_if_due(now, out);
        self.pump(now, out);
        self.recent.forget((now - REQUEST_TIMEOUT_MS).min(self.reconcile.asked_at(now) - FEED_LAG_MS));
    }

    /// Publishes a wanted transaction, after the removal of those that it replaced.
    fn publish(&mut self, transaction: Box<Transaction>, out: &mut Vec<Output>) {
        let txid = transaction.txid;
        let Some(entry) = self.view.get(&txid) else { return };
        let (order, first_seen) = (entry.order, entry.first_seen);
        if self.settings.flavour == Flavour::Bsv && !is_final(&transaction, self.tip) {
            // Announced, but in the node's pool of non-final transactions and not in its mempool.
            self.excused.insert(txid);
            self.remove(txid, RemovalReason::Unknown, None, None, out);
            return;
        }
        let rivals = self.view.rivals(&transaction);
        let outlived =
            |rival| self.view.get(rival).is_some_and(|of| of.state == State::Published && of.order > order);
        if rivals.iter().any(outlived) {
            // What conflicts with it came later and is in the mempool: this one has left.
            self.gone(&txid, out);
            return;
        }
        for rival in rivals {
            for replaced in self.view.family(rival) {
                self.remove(replaced, RemovalReason::Replaced, None, Some(txid), out);
            }
        }
        self.view.publish(&transaction);
        out.push(Output::Add { transaction, first_seen });
        self.repaired(&txid, true, out);
    }

    /// Notes that the source has no body of a wanted transaction any more.
    fn gone(&mut self, txid: &Txid, out: &mut Vec<Output>) {
        if let Some(entry) = self.view.get_mut(txid) {
            entry.state = State::Gone;
        }
        self.repaired(txid, false, out);
    }

    /// Removes a transaction whose removal nothing explained.
    pub(crate) fn remove_unexplained(&mut self, now: i64, txid: Txid, out: &mut Vec<Output>) -> bool {
        let first_seen = self.view.get(&txid).map_or(now, |entry| entry.first_seen);
        let expired = now - first_seen >= self.settings.expiry_ms;
        let reason = if expired { RemovalReason::Expired } else { RemovalReason::Unknown };
        self.remove(txid, reason, None, None, out)
    }

    /// Forgets a transaction and says so where it was published.
    fn remove(
        &mut self,
        txid: Txid,
        reason: RemovalReason,
        block: Option<BlockHash>,
        replaced_by: Option<Txid>,
        out: &mut Vec<Output>,
    ) -> bool {
        self.repaired(&txid, false, out);
        let Some(entry) = self.view.remove(&txid) else { return false };
        let published = matches!(entry.state, State::Published | State::Leaving { .. });
        if published {
            out.push(Output::Remove { txid, reason, block, replaced_by, first_seen: entry.first_seen });
        }
        published
    }

    /// Notes that a transaction wanted to repair a gap is restored, or is not to be had.
    fn repaired(&mut self, txid: &Txid, restored: bool, out: &mut Vec<Output>) {
        if let Some(entry) = self.view.get_mut(txid)
            && std::mem::take(&mut entry.repairs)
        {
            self.gaps.awaited -= 1;
            self.gaps.recovered += u64::from(restored);
            self.gaps.close(out);
        }
    }

    pub(crate) fn want_body(&mut self, txid: Txid) {
        if let Some(entry) = self.view.get_mut(&txid) {
            entry.state = State::Wanted;
            self.fetch.push(txid);
        }
    }

    fn pump(&mut self, now: i64, out: &mut Vec<Output>) {
        let view = &self.view;
        if let Some(batch) = self.fetch.next(now, |txid| view.state(txid) == Some(State::Wanted)) {
            out.push(Output::WantTransactions(batch));
        }
    }
}

/// Whether a transaction may be in the next block (`IsFinalTx`).
fn is_final(transaction: &Transaction, tip: TipTime) -> bool {
    let lock_time = transaction.lock_time;
    let limit =
        if lock_time < LOCK_TIME_THRESHOLD { i64::from(tip.height) + 1 } else { i64::from(tip.median_time) };
    lock_time == 0
        || lock_time < limit
        || transaction.inputs.iter().all(|input| input.sequence == SEQUENCE_FINAL)
}
