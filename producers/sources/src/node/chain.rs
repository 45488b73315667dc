//! Headers of the node's best chain.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use serde::Deserialize;
use serde_json::json;

use super::Node;
use super::rpc::{self, RpcError};
use super::wire::{DisplayHash, HexBytes};
use crate::{Headers, Result};

/// Headers that a node gives at once.
const MAX_HEADERS_PER_CALL: usize = 2000;
/// Headers asked for in one batch where there is no REST.
const HEADERS_PER_BATCH: usize = 500;
/// Blocks of a locator asked for in one batch.
const LOCATOR_BATCH: usize = 50;
/// Size of the answer to one of the batches.
const MAX_BATCH_BYTES: u64 = 16 << 20;
/// How often the chain may change under our hands.
const TRIES: usize = 3;
const HEADER_BYTES: usize = 80;

/// Finds the newest block of the locator on the best chain and reads on from there.
pub(super) fn headers(node: &Node, locator: &[BlockHash], max: usize) -> Result<Headers> {
    for _ in 0..TRIES {
        let after = newest_on_best_chain(node, locator)?;
        let headers = match (after, node.rest) {
            (Some((hash, _)), true) => by_rest(node, hash, max.saturating_add(1))?.map(|mut headers| {
                headers.remove(0);
                headers
            }),
            (None, true) => by_rest(node, node.network.genesis(), max)?,
            (Some((hash, height)), false) => by_rpc(node, Some(hash), height + 1, max)?,
            (None, false) => by_rpc(node, None, 0, max)?,
        };
        if let Some(headers) = headers {
            return Ok(Headers { after: after.map(|(hash, _)| hash), headers });
        }
    }
    Err(node.unusable("headers", format!("another chain each time, {TRIES} times")))
}

fn newest_on_best_chain(node: &Node, locator: &[BlockHash]) -> Result<Option<(BlockHash, i32)>> {
    #[derive(Deserialize)]
    struct Position {
        /// -1 for a block that is not on the best chain.
        confirmations: i64,
        height: i32,
    }
    for batch in locator.chunks(LOCATOR_BATCH) {
        let params = batch.iter().map(|hash| json!([hash.to_string(), true]));
        let positions = batched::<Position>(node, "getblockheader", params)?;
        for (hash, position) in batch.iter().zip(positions) {
            match position {
                Ok(position) if position.confirmations >= 0 => return Ok(Some((*hash, position.height))),
                Ok(_) => {}
                Err(error) if error.code == rpc::NO_SUCH_THING => {}
                Err(error) => return Err(node.rpc.failed("getblockheader", &error)),
            }
        }
    }
    Ok(None)
}

/// Up to `max` headers of the best chain from `first` on, itself included; `None` where it is no longer on it.
fn by_rest(node: &Node, first: BlockHash, max: usize) -> Result<Option<Vec<Header>>> {
    let mut headers: Vec<Header> = Vec::new();
    let mut from = first;
    while headers.len() < max {
        // The first of a further answer is the last of the one before.
        let known = usize::from(!headers.is_empty());
        let count = (max - headers.len() + known).min(MAX_HEADERS_PER_CALL);
        let path = format!("/rest/headers/{count}/{from}.bin");
        let attempt = format!("fetch {path}");
        let response = node.http.get(&path, None)?;
        if response.status != 200 {
            return Err(response.unexpected(&attempt));
        }
        let bytes = response.bytes(&attempt, (count * HEADER_BYTES) as u64)?;
        let Some(run) = parsed(&bytes).filter(|run| are_linked(run)) else {
            return Err(node.unusable(attempt, "headers that do not follow each other"));
        };
        match run.first() {
            Some(header) if header.block_hash() == from => {}
            Some(_) => return Err(node.unusable(attempt, "headers of another block")),
            // It has left the best chain meanwhile. What came before is still a run of one chain.
            None => return Ok(Some(headers).filter(|headers| !headers.is_empty())),
        }
        let whole = run.len() == count;
        headers.extend_from_slice(&run[known..]);
        match headers.last() {
            Some(last) if whole => from = last.block_hash(),
            _ => break,
        }
    }
    Ok(Some(headers))
}

/// The same by RPC, from a height on; `None` where the block there does not follow `after`.
fn by_rpc(node: &Node, after: Option<BlockHash>, height: i32, max: usize) -> Result<Option<Vec<Header>>> {
    let mut headers: Vec<Header> = Vec::new();
    while headers.len() < max {
        let first = height.saturating_add(headers.len() as i32);
        let count = (max - headers.len()).min(HEADERS_PER_BATCH) as i32;
        let heights = (first..first.saturating_add(count)).map(|height| json!([height]));
        let hashes = batched::<DisplayHash<BlockHash>>(node, "getblockhash", heights)?;
        // Beyond the tip there are no hashes.
        let hashes: Vec<BlockHash> =
            hashes.into_iter().map_while(|hash| hash.ok()).map(|hash| hash.0).collect();
        let params = hashes.iter().map(|hash| json!([hash.to_string(), false]));
        let whole = hashes.len() == count as usize;
        for (hash, raw) in hashes.iter().zip(batched::<HexBytes>(node, "getblockheader", params)?) {
            let raw = raw.map_err(|error| node.rpc.failed("getblockheader", &error))?;
            let header: Header = match deserialize(&raw.0) {
                Ok(header) => header,
                Err(error) => return Err(node.unusable("getblockheader", error.to_string())),
            };
            if header.block_hash() != *hash {
                return Err(node.unusable("getblockheader", "the header of another block"));
            }
            let parent = headers.last().map(Header::block_hash).or(after);
            if parent.is_some_and(|parent| parent != header.prev_blockhash) {
                return Ok(Some(headers).filter(|headers| !headers.is_empty()));
            }
            headers.push(header);
        }
        if !whole {
            break;
        }
    }
    Ok(Some(headers))
}

fn batched<T: serde::de::DeserializeOwned>(
    node: &Node,
    method: &str,
    params: impl Iterator<Item = serde_json::Value>,
) -> Result<Vec<Result<T, RpcError>>> {
    let answers = node.rpc.batch(method, params, MAX_BATCH_BYTES)?;
    answers.ok_or_else(|| node.unusable(method, format!("more than {MAX_BATCH_BYTES} bytes")))
}

fn parsed(bytes: &[u8]) -> Option<Vec<Header>> {
    let (headers, rest) = bytes.as_chunks::<HEADER_BYTES>();
    if !rest.is_empty() {
        return None;
    }
    headers.iter().map(|header| deserialize(header).ok()).collect()
}

fn are_linked(headers: &[Header]) -> bool {
    headers.windows(2).all(|pair| pair[1].prev_blockhash == pair[0].block_hash())
}
