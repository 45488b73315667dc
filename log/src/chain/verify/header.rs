//! What a chain event says of its header and of its place in the chain.

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, TxMerkleNode};
use sluice_schemas::network::UnknownNetwork;
use sluice_schemas::{Action, ChainEvent, Network};

/// The tip of the chain after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) hash: BlockHash,
    pub(super) height: i32,
    pub(super) network: Network,
    /// Big-endian; `None` for the block before the first one of the log.
    pub(super) chain_work: Option<[u8; 32]>,
}

/// The merkle root of the event's header.
pub(super) fn merkle_root(event: &ChainEvent) -> Result<TxMerkleNode, String> {
    Ok(header(event)?.merkle_root)
}

/// The event's fields are its header's, and the header meets its own target.
pub(super) fn check_fields(event: &ChainEvent) -> Result<(), String> {
    let header = header(event)?;
    let hash = header.block_hash();
    if hash != event.hash {
        return Err(format!("hash is {}, but the header's is {hash}", event.hash));
    }
    if header.prev_blockhash != event.prev_hash {
        return Err(format!(
            "prev_hash is {}, but the header has {}",
            event.prev_hash, header.prev_blockhash
        ));
    }
    if event.time != i64::from(header.time) * 1000 {
        return Err(format!("time is {} ms, but the header has {} s", event.time, header.time));
    }
    let network = network(event)?;
    if event.height == 0 && hash != network.genesis() {
        return Err(format!("block {hash} is not the genesis block of {network}"));
    }
    if !header.target().is_met_by(hash) {
        return Err(format!("block {hash} does not meet its own target {:x}", header.target()));
    }
    Ok(())
}

/// The event's place: on the tip where it connects, the tip itself where it disconnects.
pub(super) fn check_link(event: &ChainEvent, tip: Option<&Tip>) -> Result<(), String> {
    if event.height < 0 || (event.height == 0) != (event.prev_hash == BlockHash::all_zeros()) {
        return Err(format!("height {} with prev_hash {}", event.height, event.prev_hash));
    }
    let network = network(event)?;
    if let Some(tip) = tip.filter(|tip| tip.network != network) {
        return Err(format!("a block of {network} comes on a log of {}", tip.network));
    }
    match (event.action, tip) {
        (Action::Connected, None) => Ok(()),
        (Action::Connected, Some(tip)) => {
            if event.prev_hash != tip.hash {
                return Err(format!("prev_hash is {}, but the tip is {}", event.prev_hash, tip.hash));
            }
            if Some(event.height) != tip.height.checked_add(1) {
                return Err(format!("height is {}, but the tip's is {}", event.height, tip.height));
            }
            Ok(())
        }
        // In the middle of a log, where an audit may begin, the tip before the first event is not known.
        (Action::Disconnected, None) if event.sequence > 0 => Ok(()),
        (Action::Disconnected, None) => Err("the first event of the log disconnects a block".to_owned()),
        (Action::Disconnected, Some(tip)) if (event.hash, event.height) == (tip.hash, tip.height) => Ok(()),
        (Action::Disconnected, Some(tip)) => Err(format!(
            "block {} at height {} is disconnected, but the tip is {} at height {}",
            event.hash, event.height, tip.hash, tip.height
        )),
    }
}

/// The event's chain work is its parent's plus its own. Gives the tip after the event.
pub(super) fn check_work(event: &ChainEvent, tip: Option<&Tip>) -> Result<Tip, String> {
    let own = header(event)?.work().to_be_bytes();
    let Some(parents) = checked_sub(&event.chain_work, &own) else {
        let reason = format!("chain_work {} is less than the block's own", hex(&event.chain_work));
        return Err(reason);
    };
    let expected = match event.action {
        Action::Connected if event.height == 0 => Some([0; 32]),
        Action::Connected => tip.and_then(|tip| tip.chain_work),
        Action::Disconnected => tip.and_then(|tip| tip.chain_work).and_then(|work| checked_sub(&work, &own)),
    };
    if let Some(expected) = expected.filter(|expected| *expected != parents) {
        let reason = format!(
            "chain_work is {}, which leaves {} for the parent, but it has {}",
            hex(&event.chain_work),
            hex(&parents),
            hex(&expected)
        );
        return Err(reason);
    }
    let network = network(event)?;
    let (height, hash) = event.tip();
    let chain_work = match event.action {
        Action::Connected => event.chain_work,
        Action::Disconnected => parents,
    };
    Ok(Tip { hash, height, network, chain_work: Some(chain_work) })
}

fn header(event: &ChainEvent) -> Result<Header, String> {
    deserialize(&event.header).map_err(|error| format!("the header cannot be read: {error}"))
}

fn network(event: &ChainEvent) -> Result<Network, String> {
    event.network.parse().map_err(|error: UnknownNetwork| error.to_string())
}

/// `a - b`, big-endian.
fn checked_sub(a: &[u8; 32], b: &[u8; 32]) -> Option<[u8; 32]> {
    let mut difference = [0; 32];
    let mut borrow = false;
    for index in (0..32).rev() {
        let (byte, first) = a[index].overflowing_sub(b[index]);
        let (byte, second) = byte.overflowing_sub(u8::from(borrow));
        difference[index] = byte;
        borrow = first || second;
    }
    (!borrow).then_some(difference)
}

fn hex(bytes: &[u8; 32]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{}", digits.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_subtracted_with_borrow_and_never_below_zero() {
        let number = |low: u64| {
            let mut bytes = [0; 32];
            bytes[24..].copy_from_slice(&low.to_be_bytes());
            bytes
        };
        assert_eq!(checked_sub(&number(0x1_0000), &number(1)), Some(number(0xffff)));
        assert_eq!(checked_sub(&number(7), &number(7)), Some(number(0)));
        assert_eq!(checked_sub(&number(1), &number(2)), None);
    }
}
