//! The list of reorgs: pure.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use sluice_consumer::BlockRef;
use sluice_schemas::{Action, ChainEvent};

use crate::query::{MAX_REORG_BLOCKS, Reorg};
use crate::rows::key::{put_number, take, take_number};

/// Follows chain events from one reorg to the next.
#[derive(Default)]
pub(crate) struct Reorgs {
    /// The reorg that goes on.
    current: Option<Reorg>,
}

impl Reorgs {
    /// Goes on with the last reorg of the list, where that is not over.
    pub(crate) fn resume(last: Option<Reorg>) -> Self {
        Self { current: last.filter(|last| !is_over(last)) }
    }

    /// Takes a chain event, and gives the reorg that it belongs to, as it is now.
    pub(crate) fn follow(&mut self, event: &ChainEvent) -> Option<&Reorg> {
        if self.current.as_ref().is_some_and(is_over) {
            self.current = None;
        }
        let block = BlockRef { height: event.height, hash: event.hash };
        let parent = BlockRef { height: event.height - 1, hash: event.prev_hash };
        match (event.action, &mut self.current) {
            (Action::Connected, None) => return None,
            (Action::Connected, Some(reorg)) => {
                if reorg.connected.len() < MAX_REORG_BLOCKS {
                    reorg.connected.push(block);
                }
            }
            (Action::Disconnected, Some(reorg)) if reorg.connected.is_empty() => {
                reorg.depth += 1;
                reorg.fork = parent;
                if reorg.disconnected.len() < MAX_REORG_BLOCKS {
                    reorg.disconnected.push(block);
                }
            }
            (Action::Disconnected, current) => {
                *current = Some(Reorg {
                    sequence: event.sequence,
                    observed_at: event.observed_at,
                    fork: parent,
                    depth: 1,
                    disconnected: vec![block],
                    connected: Vec::new(),
                });
            }
        }
        self.current.as_ref()
    }
}

/// Whether the new branch is longer than the old one, or as long as is listed.
fn is_over(reorg: &Reorg) -> bool {
    let old_tip = reorg.disconnected.first().map(|block| block.height);
    let new_tip = reorg.connected.last().map(|block| block.height);
    new_tip > old_tip || reorg.connected.len() >= MAX_REORG_BLOCKS
}

/// Key of a row.
pub(crate) fn key(sequence: i64) -> [u8; 8] {
    sequence.to_be_bytes()
}

/// A row.
pub(crate) fn write(reorg: &Reorg) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, reorg.observed_at as u64);
    put_number(&mut out, reorg.depth.into());
    put_block(&mut out, reorg.fork);
    for branch in [&reorg.disconnected, &reorg.connected] {
        put_number(&mut out, branch.len() as u64);
        branch.iter().for_each(|block| put_block(&mut out, *block));
    }
    out
}

/// Reads what `key` and `write` wrote.
pub(crate) fn read(key: &[u8], mut row: &[u8]) -> Option<Reorg> {
    let row = &mut row;
    let reorg = Reorg {
        sequence: i64::from_be_bytes(key.try_into().ok()?),
        observed_at: take_number(row)? as i64,
        depth: u32::try_from(take_number(row)?).ok()?,
        fork: take_block(row)?,
        disconnected: take_blocks(row)?,
        connected: take_blocks(row)?,
    };
    row.is_empty().then_some(reorg)
}

fn put_block(out: &mut Vec<u8>, block: BlockRef) {
    out.extend(block.height.to_be_bytes());
    out.extend(block.hash.to_byte_array());
}

fn take_block(row: &mut &[u8]) -> Option<BlockRef> {
    let height = i32::from_be_bytes(take(row)?);
    Some(BlockRef { height, hash: BlockHash::from_byte_array(take(row)?) })
}

fn take_blocks(row: &mut &[u8]) -> Option<Vec<BlockRef>> {
    let count = usize::try_from(take_number(row)?).ok().filter(|count| *count <= MAX_REORG_BLOCKS)?;
    (0..count).map(|_| take_block(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::Phase;

    fn event(sequence: i64, action: Action, height: i32, hash: u8) -> ChainEvent {
        let hash_of = |byte| BlockHash::from_byte_array([byte; 32]);
        ChainEvent {
            sequence,
            action,
            hash: hash_of(hash),
            prev_hash: hash_of(hash - 1),
            height,
            header: [0; 80],
            chain_work: [0; 32],
            time: 0,
            median_time: 0,
            tx_count: 0,
            size: 0,
            weight: None,
            transactions: Vec::new(),
            phase: Phase::Live,
            observed_at: 1_000 + sequence,
            epoch: 0,
            network: "btc-regtest".into(),
        }
    }

    #[test]
    fn a_reorg_is_told_with_its_fork_and_both_branches_until_the_new_one_is_longer() {
        use Action::{Connected, Disconnected};
        let mut reorgs = Reorgs::default();
        assert_eq!(reorgs.follow(&event(0, Connected, 5, 10)), None);
        reorgs.follow(&event(1, Disconnected, 5, 10));
        reorgs.follow(&event(2, Disconnected, 4, 9));
        reorgs.follow(&event(3, Connected, 4, 109));
        reorgs.follow(&event(4, Connected, 5, 110));
        let last = reorgs.follow(&event(5, Connected, 6, 111)).cloned().unwrap();
        let heights = |blocks: &[BlockRef]| blocks.iter().map(|block| block.height).collect::<Vec<_>>();
        assert_eq!((last.sequence, last.observed_at, last.depth), (1, 1_001, 2));
        assert_eq!((last.fork.height, last.fork.hash), (3, BlockHash::from_byte_array([8; 32])));
        assert_eq!((heights(&last.disconnected), heights(&last.connected)), (vec![5, 4], vec![4, 5, 6]));
        assert_eq!(read(&key(1), &write(&last)), Some(last.clone()));
        assert_eq!(reorgs.follow(&event(6, Connected, 7, 112)), None);
        assert!(Reorgs::resume(Some(last)).current.is_none());
    }

    #[test]
    fn blocks_that_leave_while_the_new_branch_comes_are_another_reorg() {
        use Action::{Connected, Disconnected};
        let mut reorgs = Reorgs::default();
        reorgs.follow(&event(1, Disconnected, 5, 10));
        reorgs.follow(&event(2, Connected, 5, 50));
        let second = reorgs.follow(&event(3, Disconnected, 5, 50)).cloned().unwrap();
        assert_eq!((second.sequence, second.depth), (3, 1));
    }

    #[test]
    fn a_very_deep_reorg_is_counted_whole_and_listed_in_part() {
        let mut reorgs = Reorgs::default();
        for n in 0..150 {
            reorgs.follow(&event(n, Action::Disconnected, 1_000 - n as i32, 200));
        }
        let reorg = reorgs.current.unwrap();
        assert_eq!((reorg.depth, reorg.disconnected.len()), (150, MAX_REORG_BLOCKS));
    }
}
