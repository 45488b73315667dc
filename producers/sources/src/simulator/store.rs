//! Blocks on disk: the bodies of all blocks ever mined, so that memory holds headers only.
//!
//! `blocks.dat` is a row of records, each a block and what it spends; `world.dat` is the newest saved world, replaced as
//! a whole, with the length of `blocks.dat` that goes with it. What stands behind that length was being written when the
//! process ended; nobody was told of it, and it is mined again.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::{Hash, sha256d};

use super::block::SimBlock;

/// Length of body, length of what it spends, height.
const RECORD_HEAD: u64 = 8 + 8 + 4;
const HEADER: u64 = 80;
const BLOCKS: &str = "blocks.dat";
const WORLD: &str = "world.dat";

/// A block's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) height: i32,
    offset: u64,
    body: u64,
    spent: u64,
}

/// The blocks, and which of them are the best chain.
pub(super) struct Store {
    file: Arc<File>,
    folder: Option<PathBuf>,
    length: u64,
    entries: HashMap<BlockHash, Entry>,
    /// The best chain by height.
    best: Vec<BlockHash>,
}

impl Store {
    /// Opens a folder, or a nameless temporary file. Only one process can have a folder open.
    pub(super) fn open(folder: Option<&Path>) -> io::Result<Self> {
        let file = match folder {
            None => tempfile::tempfile()?,
            Some(folder) => {
                fs::create_dir_all(folder)?;
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(folder.join(BLOCKS))?;
                match file.try_lock() {
                    Err(TryLockError::WouldBlock) => {
                        return Err(io::Error::new(
                            io::ErrorKind::ResourceBusy,
                            "another process has it open",
                        ));
                    }
                    Err(TryLockError::Error(error)) => return Err(error),
                    Ok(()) => file,
                }
            }
        };
        let (entries, best) = (HashMap::new(), Vec::new());
        Ok(Self { file: Arc::new(file), folder: folder.map(Path::to_owned), length: 0, entries, best })
    }

    /// The saved world, if there is one, with all blocks up to it.
    ///
    /// # Errors
    /// `InvalidData` for what is damaged.
    pub(super) fn saved(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let bytes = match fs::read(folder.join(WORLD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let (digest, rest) = bytes.split_at_checked(32).ok_or_else(|| damaged(WORLD))?;
        let (length, world) = rest.split_at_checked(8).ok_or_else(|| damaged(WORLD))?;
        if sha256d::Hash::hash(rest).as_byte_array() != digest {
            return Err(damaged(WORLD));
        }
        let length = u64::from_le_bytes(length.try_into().map_err(|_| damaged(WORLD))?);
        while self.length < length {
            let entry = self.entry_at(self.length)?;
            self.length += RECORD_HEAD + entry.body + entry.spent;
            self.entries.insert(entry.header.block_hash(), entry);
        }
        if self.length != length || self.file.metadata()?.len() < length {
            return Err(damaged(BLOCKS));
        }
        self.file.set_len(length)?;
        Ok(Some(world.to_vec()))
    }

    fn entry_at(&self, offset: u64) -> io::Result<Entry> {
        let mut head = [0; (RECORD_HEAD + HEADER) as usize];
        self.file.read_exact_at(&mut head, offset)?;
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let height = i32::from_le_bytes(head[16..20].try_into().expect("four bytes"));
        let header = bitcoin::consensus::deserialize(&head[20..]).map_err(|_| damaged(BLOCKS))?;
        Ok(Entry { header, height, offset: offset + RECORD_HEAD, body: number(0), spent: number(8) })
    }

    /// Forgets all blocks, and the saved world first: without blocks it would be damaged.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        if let Some(folder) = &self.folder {
            match fs::remove_file(folder.join(WORLD)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.entries.clear();
        self.best.clear();
        self.length = 0;
        self.file.set_len(0)
    }

    /// Appends a block.
    pub(super) fn append(&mut self, block: &SimBlock) -> io::Result<()> {
        let (body, spent) = (block.body(), block.spent());
        let mut record = Vec::with_capacity(RECORD_HEAD as usize + body.len() + spent.len());
        record.extend((body.len() as u64).to_le_bytes());
        record.extend((spent.len() as u64).to_le_bytes());
        record.extend(block.height.to_le_bytes());
        record.extend_from_slice(&body);
        record.extend_from_slice(&spent);
        self.file.write_all_at(&record, self.length)?;
        let entry = Entry {
            header: block.header,
            height: block.height,
            offset: self.length + RECORD_HEAD,
            body: body.len() as u64,
            spent: spent.len() as u64,
        };
        self.length += record.len() as u64;
        self.entries.insert(block.hash, entry);
        Ok(())
    }

    /// Saves the world that goes with the blocks appended so far, for good.
    pub(super) fn save(&self, world: &[u8]) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        self.file.sync_data()?;
        let mut rest = self.length.to_le_bytes().to_vec();
        rest.extend_from_slice(world);
        let mut bytes = sha256d::Hash::hash(&rest).to_byte_array().to_vec();
        bytes.append(&mut rest);
        let new = folder.join("world.new");
        fs::write(&new, bytes)?;
        File::open(&new)?.sync_data()?;
        fs::rename(new, folder.join(WORLD))?;
        File::open(folder)?.sync_all()
    }

    /// Makes a known block the tip of the best chain.
    pub(super) fn make_tip(&mut self, tip: BlockHash) {
        let mut branch = Vec::new();
        let mut hash = tip;
        while let Some(entry) = self.entries.get(&hash) {
            if self.best.get(entry.height as usize) == Some(&hash) {
                break;
            }
            branch.push(hash);
            hash = entry.header.prev_blockhash;
        }
        let above_fork = self.entries.get(&hash).map_or(0, |entry| entry.height as usize + 1);
        self.best.truncate(above_fork);
        self.best.extend(branch.into_iter().rev());
    }

    /// A block, on any branch.
    pub(super) fn entry(&self, hash: &BlockHash) -> Option<&Entry> {
        self.entries.get(hash)
    }

    /// Height of a block, if it is on the best chain.
    pub(super) fn best_height(&self, hash: &BlockHash) -> Option<usize> {
        let height = self.entries.get(hash)?.height as usize;
        (self.best.get(height) == Some(hash)).then_some(height)
    }

    /// Headers of the best chain from a height on.
    pub(super) fn best_from(&self, height: usize) -> impl Iterator<Item = Header> {
        self.best.iter().skip(height).filter_map(|hash| self.entries.get(hash)).map(|entry| entry.header)
    }

    /// The body of a block, to be read.
    pub(super) fn body(&self, entry: &Entry) -> Part {
        Part { file: self.file.clone(), offset: entry.offset, left: entry.body }
    }

    /// What a block spends, to be read.
    pub(super) fn spent(&self, entry: &Entry) -> Part {
        Part { file: self.file.clone(), offset: entry.offset + entry.body, left: entry.spent }
    }

    /// A whole block.
    pub(super) fn block(&self, hash: &BlockHash) -> io::Result<SimBlock> {
        let entry = self.entries.get(hash).ok_or_else(|| damaged(BLOCKS))?;
        let (mut body, mut spent) = (Vec::new(), Vec::new());
        self.body(entry).read_to_end(&mut body)?;
        self.spent(entry).read_to_end(&mut spent)?;
        SimBlock::read(entry.height, &body, &spent).map_err(|_| damaged(BLOCKS))
    }
}

fn damaged(file: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{file} is damaged"))
}

/// A part of the file.
pub(super) struct Part {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Part {
    pub(super) fn size(&self) -> u64 {
        self.left
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
