//! The store: `fjall`, one keyspace for each table.

mod batch;
pub(crate) mod lookup;
mod tables;
mod writer;

use std::path::Path;

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use sluice_consumer::Position;

use crate::{Error, Result};

pub(crate) use batch::Batch;
pub(crate) use tables::Table;
pub(crate) use writer::Writer;

/// Form of the rows; another one is built anew.
const VERSION: u8 = 1;

/// Rows of `meta`.
pub(crate) mod meta {
    /// Where on the log the rows are.
    pub(crate) const POSITION: &str = "position";
    /// Sequence up to which rows may be there already, from a write that was cut off.
    pub(crate) const UNFINISHED: &str = "unfinished";
    /// The network, as `--network` takes it.
    pub(crate) const NETWORK: &str = "network";
    /// Whether the node tells prevouts.
    pub(crate) const PREVOUTS: &str = "prevouts";
    /// Transactions are stored.
    pub(crate) const TRANSACTIONS: &str = "transactions";
    /// Form of the rows.
    pub(crate) const VERSION: &str = "version";
}

/// How safe a write is when `write` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It survives the process.
    Process,
    /// It survives a loss of power.
    Power,
}

/// All tables. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
    tables: [Keyspace; Table::ALL.len()],
}

impl Store {
    /// Opens the store in a directory, and creates it where there is none.
    ///
    /// # Errors
    /// Another process has it, the disk fails, or its rows are of another form.
    pub(crate) fn open(directory: &Path, cache_bytes: u64) -> Result<Self> {
        let failed =
            |error: fjall::Error| Error::Open { directory: directory.to_owned(), source: error.into() };
        let open = || -> fjall::Result<Self> {
            let database = Database::builder(directory)
                .cache_size(cache_bytes)
                .max_journaling_size(MAX_JOURNAL_BYTES)
                .worker_threads(WORKERS)
                .open()?;
            let mut tables = Vec::with_capacity(Table::ALL.len());
            for index in 0..Table::ALL.len() {
                let table = Table::ALL.into_iter().find(|table| *table as usize == index);
                let table = table.expect("ALL has each table");
                tables
                    .push(database.keyspace(table.name(), || -> KeyspaceCreateOptions { table.settings() })?);
            }
            let tables = tables.try_into().unwrap_or_else(|_| unreachable!("one for each table"));
            Ok(Self { database, tables })
        };
        let store = open().map_err(failed)?;
        match store.meta(meta::VERSION)?.as_deref() {
            Some([VERSION]) => Ok(store),
            Some(_) => Err(Error::OtherVersion { directory: directory.to_owned() }),
            None => {
                let mut first = Batch::default();
                first.put(Table::Meta, meta::VERSION.as_bytes(), &[VERSION]);
                store.write(&mut first, Durability::Power)?;
                Ok(store)
            }
        }
    }

    /// One row, the newest.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<fjall::Slice>> {
        self.tables[table as usize].get(key).map_err(read)
    }

    /// Rows whose keys begin with `prefix`, the newest.
    pub(crate) fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(fjall::Slice, fjall::Slice)>> {
        self.tables[table as usize].prefix(prefix).map(pair)
    }

    /// One row of `meta`.
    pub(crate) fn meta(&self, name: &str) -> Result<Option<fjall::Slice>> {
        self.get(Table::Meta, name.as_bytes())
    }

    /// Where on the log the rows are.
    pub(crate) fn position(&self) -> Result<Option<Position>> {
        let Some(row) = self.meta(meta::POSITION)? else { return Ok(None) };
        Position::from_bytes(&row).map(Some).ok_or(Error::Damaged { table: Table::Meta.name() })
    }

    /// Writes a batch: all of it or nothing. The batch is empty after.
    pub(crate) fn write(&self, batch: &mut Batch, durability: Durability) -> Result<()> {
        let mode = match durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Power => PersistMode::SyncData,
        };
        let mut writes = self.database.batch().durability(Some(mode));
        for table in Table::ALL {
            let keyspace = &self.tables[table as usize];
            for (key, value) in batch.sorted(table) {
                match value {
                    Some(value) => writes.insert(keyspace, key, value),
                    None => writes.remove(keyspace, key),
                }
            }
        }
        writes.commit().map_err(write)?;
        batch.clear();
        Ok(())
    }

    /// Writes a large batch past the journal, table by table in the order of `Table::ALL`: where it is cut off, some
    /// tables have it and others do not. The batch is empty after.
    fn write_apart(&self, batch: &mut Batch) -> Result<()> {
        for table in Table::ALL {
            let rows = batch.sorted(table);
            if rows.len() == 0 {
                continue;
            }
            let write_table = || -> fjall::Result<()> {
                let mut ingestion = self.tables[table as usize].start_ingestion()?;
                for (key, value) in rows {
                    match value {
                        Some(value) => ingestion.write(key, value)?,
                        None => ingestion.write_tombstone(key)?,
                    }
                }
                ingestion.finish()
            };
            write_table().map_err(write)?;
        }
        batch.clear();
        Ok(())
    }

    /// Everything as it is now.
    pub(crate) fn snapshot(&self) -> Rows {
        Rows { snapshot: self.database.snapshot(), store: self.clone() }
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.database.disk_space().map_err(read)
    }
}

/// All tables at one moment.
#[derive(Clone)]
pub(crate) struct Rows {
    snapshot: Snapshot,
    store: Store,
}

impl Rows {
    /// One row.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<fjall::Slice>> {
        self.snapshot.get(&self.store.tables[table as usize], key).map_err(read)
    }

    /// Rows whose keys begin with `prefix`, in the order of the keys.
    pub(crate) fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(fjall::Slice, fjall::Slice)>> + use<> {
        self.snapshot.prefix(&self.store.tables[table as usize], prefix).map(pair)
    }

    /// Rows whose keys are in `from..to`, in the order of the keys.
    pub(crate) fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(fjall::Slice, fjall::Slice)>> + use<> {
        self.snapshot.range(&self.store.tables[table as usize], from..to).map(pair)
    }
}

/// How much the journal may hold before the tables in it must go to disk.
const MAX_JOURNAL_BYTES: u64 = 128 << 20;

/// Threads that flush and merge tables. Of several, the store keeps one free for flushes; while another one merges, that
/// one hands what is to be merged next to itself again and again, and takes a whole core.
const WORKERS: usize = 1;

fn pair(guard: Guard) -> Result<(fjall::Slice, fjall::Slice)> {
    guard.into_inner().map_err(read)
}

fn read(error: fjall::Error) -> Error {
    Error::Store { attempt: "read", source: error.into() }
}

fn write(error: fjall::Error) -> Error {
    Error::Store { attempt: "write", source: error.into() }
}
