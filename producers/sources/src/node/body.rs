//! Bodies of blocks, as they arrive.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::BlockHash;
use serde_json::json;
use tracing::warn;

use super::Node;
use super::rpc;
use super::wire::HexBytes;
use crate::{Body, Error, Result};

/// Largest body taken by RPC, where REST is off: it comes as hex, in one piece.
const MAX_RPC_BODY_BYTES: u64 = 32 << 20;
/// How often a download that broke off is resumed without a byte of progress.
const MAX_RESUMES: u32 = 4;
/// Wait before the first resumption; doubles each time.
const RESUME_WAIT: Duration = Duration::from_millis(250);
/// What Bitcoin Core says of a block that it has pruned.
const PRUNED: &str = "pruned data";

/// Opens the body of a block, and what it spends where the node can tell.
pub(super) fn open(node: &Arc<Node>, hash: &BlockHash) -> Result<Body> {
    if !node.rest {
        return by_rpc(node, hash);
    }
    let path = format!("/rest/block/{hash}.bin");
    let Some(download) = Download::start(node, path, Missing::NoSuchBlock(*hash))? else {
        return Err(no_such_block(node, hash));
    };
    Ok(Body { size: download.size, spent: spent(node, hash)?, bytes: Box::new(download) })
}

fn spent(node: &Arc<Node>, hash: &BlockHash) -> Result<Option<Box<dyn Read + Send>>> {
    if !node.spent.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let path = format!("/rest/spenttxouts/{hash}.bin");
    let download = Download::start(node, path, Missing::NothingToTell)?;
    Ok(download.map(|download| Box::new(download) as Box<dyn Read + Send>))
}

fn by_rpc(node: &Node, hash: &BlockHash) -> Result<Body> {
    let answer_bytes = 2 * MAX_RPC_BODY_BYTES + 1024;
    match node.rpc.try_call::<HexBytes>("getblock", json!([hash.to_string(), 0]), answer_bytes) {
        Ok(Ok(block)) => {
            Ok(Body { size: Some(block.0.len() as u64), bytes: Box::new(Cursor::new(block.0)), spent: None })
        }
        // -1 is what it says of a block that it has pruned, or not downloaded yet.
        Ok(Err(error)) if error.message.contains(PRUNED) => Err(pruned(node, hash)),
        Ok(Err(error)) if matches!(error.code, rpc::NO_SUCH_THING | -1) => Err(no_such_block(node, hash)),
        Ok(Err(error)) => Err(node.rpc.failed("getblock", &error)),
        Err(Error::Unusable { reason, .. }) if reason.starts_with("more than") => Err(Error::Refused {
            source_id: node.id.clone(),
            reason: format!(
                "block {hash} has more than {MAX_RPC_BODY_BYTES} bytes and REST is off; start the node with -rest"
            ),
        }),
        Err(error) => Err(error),
    }
}

/// No wait brings it back, and a log does not leave blocks out.
fn pruned(node: &Node, hash: &BlockHash) -> Error {
    let reason = format!(
        "it has pruned block {hash}, which the log does not have yet; let the log catch up from a node that keeps all \
         blocks (prune=0) first"
    );
    Error::Refused { source_id: node.id.clone(), reason }
}

fn no_such_block(node: &Node, hash: &BlockHash) -> Error {
    Error::NoSuchBlock { source_id: node.id.clone(), hash: *hash }
}

/// What a missing path means.
#[derive(Clone, Copy)]
enum Missing {
    NoSuchBlock(BlockHash),
    /// An older node, or a block of which it keeps no undo data.
    NothingToTell,
}

/// A download that goes on where it broke off.
///
/// It asks for the rest by `Range`; a node that answers with the whole (neither Bitcoin Core nor Bitcoin SV 1.0.13 knows
/// ranges) is read over up to where we were. The bytes of a block never change.
struct Download {
    node: Arc<Node>,
    path: String,
    reader: Box<dyn Read + Send>,
    size: Option<u64>,
    delivered: u64,
    /// Since the last byte that came.
    resumes: u32,
}

impl Download {
    fn start(node: &Arc<Node>, path: String, missing: Missing) -> Result<Option<Self>> {
        let attempt = format!("fetch {path}");
        let response = node.http.get(&path, None)?;
        match response.status {
            200 => {}
            404 => {
                let explanation = response.explanation();
                if explanation.is_empty() {
                    // An unknown path, not an unknown block.
                    match missing {
                        Missing::NothingToTell => node.spent_is_known_to_be_missing(),
                        Missing::NoSuchBlock(hash) => {
                            let reason =
                                format!("it gives no block {hash}: REST is off; start it with -rest");
                            return Err(Error::Refused { source_id: node.id.clone(), reason });
                        }
                    }
                }
                return match missing {
                    Missing::NoSuchBlock(hash) if explanation.contains(PRUNED) => Err(pruned(node, &hash)),
                    _ => Ok(None),
                };
            }
            _ => return Err(response.unexpected(&attempt)),
        }
        let size = response.size();
        let reader = Box::new(response.reader());
        Ok(Some(Self { node: Arc::clone(node), path, reader, size, delivered: 0, resumes: 0 }))
    }

    /// Opens the rest again.
    fn resume(&mut self) -> io::Result<()> {
        std::thread::sleep(RESUME_WAIT * 2u32.pow(self.resumes));
        self.resumes += 1;
        let response = self.node.http.get(&self.path, Some(self.delivered)).map_err(io::Error::other)?;
        if !matches!(response.status, 200 | 206) {
            return Err(io::Error::other(response.unexpected(&format!("fetch {}", self.path))));
        }
        let Some(before) = self.delivered.checked_sub(response.starts_at()) else {
            return Err(io::Error::other("it goes on behind where we were"));
        };
        self.reader = Box::new(response.reader());
        let skipped = io::copy(&mut self.reader.by_ref().take(before), &mut io::sink())?;
        if skipped == before { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut result = self.reader.read(buffer);
        loop {
            let reason = match result {
                Ok(0) if !buffer.is_empty() && self.size.is_some_and(|size| self.delivered < size) => {
                    io::Error::from(io::ErrorKind::UnexpectedEof)
                }
                Ok(read) => {
                    self.delivered += read as u64;
                    if read > 0 {
                        self.resumes = 0;
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => error,
            };
            if self.resumes == MAX_RESUMES {
                return Err(reason);
            }
            warn!(source = self.node.id, path = self.path, bytes = self.delivered, %reason, "download broke off; resuming");
            result = self.resume().and_then(|()| self.reader.read(buffer));
        }
    }
}
