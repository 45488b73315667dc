//! A projection brought to the end of a log, by the changes that `Consumer::project` gives it in production.

use std::time::Duration;

use sluice_consumer::{Change, Error, Feed, MempoolInterest, MempoolPosition, Position, Projection, Start};
use sluice_log::chain::ChainLog;

/// How long to wait for a change that the log is known to have.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings a projection to the end of the log, from its position on. Every block is checked, up to its merkle root.
///
/// # Errors
/// What stopped it before.
pub fn project<P: Projection>(log: &ChainLog, projection: &mut P) -> Result<(), Error> {
    drive(log, projection, Pace::default(), |_, _| {})
}

/// How a projection is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Changes between two commits at the most.
    pub(crate) batch: u64,
    /// The process is killed after so many changes, the last of which is applied and not committed.
    pub(crate) killed_after: Option<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { batch: 1_000, killed_after: None }
    }
}

/// As `project`; `committed` sees the projection after each commit, with its position.
pub(crate) fn drive<P: Projection>(
    log: &ChainLog,
    projection: &mut P,
    pace: Pace,
    mut committed: impl FnMut(&P, Position),
) -> Result<(), Error> {
    let end = End::of(log, projection.mempool())?;
    let position = projection.position().map_err(Error::Position)?;
    let feed = match position {
        Some(position) => Feed::resume(log, position.cursor())?,
        None => Feed::start(log, Start::Genesis)?,
    };
    let mut feed = feed.mempool(projection.mempool()).verify_blocks(true);
    let mut mempool = match projection.mempool() {
        MempoolInterest::Resumed => position.and_then(|position| position.mempool),
        MempoolInterest::None | MempoolInterest::Rebuilt => None,
    };
    let mut applied = 0;
    let mut pending = 0;
    while !end.is_reached(feed.position(), mempool) {
        match feed.next(PATIENCE)? {
            Some(Change::Block(mut change)) => {
                projection.apply(&mut change).map_err(|source| Error::apply(change.event, source))?;
                change.finish()?;
            }
            Some(Change::Mempool(change)) => {
                projection
                    .apply_mempool(&change)
                    .map_err(|source| Error::apply_mempool(change.after, source))?;
                mempool = Some(change.after);
            }
            None => panic!("the feed gives nothing in {PATIENCE:?}, though the log goes on to {end:?}"),
        }
        applied += 1;
        pending += 1;
        if pace.killed_after == Some(applied) {
            return Ok(());
        }
        if pending >= pace.batch || end.is_reached(feed.position(), mempool) {
            let sequence = feed.position().map_or(-1, |position| position.sequence);
            projection.commit().map_err(|source| Error::Commit { sequence, source })?;
            pending = 0;
            if let Some(position) = feed.position() {
                committed(projection, position);
            }
        }
    }
    Ok(())
}

/// The end of a log.
#[derive(Debug)]
struct End {
    sequence: i64,
    /// `None` where no mempool change is wanted, or is there.
    mempool: Option<MempoolPosition>,
}

impl End {
    fn of(log: &ChainLog, interest: MempoolInterest) -> Result<Self, Error> {
        let sequence = log.tail()?.map_or(-1, |tail| tail.sequence);
        let view = match interest {
            MempoolInterest::None => None,
            // A view that does not hold is for the consumer to find.
            MempoolInterest::Rebuilt | MempoolInterest::Resumed => log.mempool_view().unwrap_or_default(),
        };
        let mempool = view.map(|view| MempoolPosition { epoch: view.epoch, sequence: view.sequence });
        Ok(Self { sequence, mempool })
    }

    fn is_reached(&self, at: Option<Position>, mempool: Option<MempoolPosition>) -> bool {
        at.map_or(-1, |at| at.sequence) >= self.sequence && mempool >= self.mempool
    }
}
