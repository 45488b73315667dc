//! The tables, and what is in them.
//!
//! | table | key | row |
//! |---|---|---|
//! | meta | name | position, network … |
//! | blocks | block hash | the event that connected it |
//! | heights | height | block hash |
//! | places | place | txid, location on the log |
//! | txids | 8 bytes of txid, place | |
//! | history | 16 bytes of script hash, place | what the transaction does to the script |
//! | unspent | 16 bytes of script hash, 16 of txid, vout | satoshis |
//! | spends | 16 bytes of txid, vout | place of the spender, vin; the coin, where the node does not tell it |
//! | coins | 16 bytes of txid, vout | script hash, satoshis; only until it is known that the node tells prevouts |
//! | addresses | address | |
//! | transactions | place | the transaction; only with `--store-transactions` |
//! | reorgs | sequence | blocks that left and came |
//! | reverts | 16 bytes of txid, sequence | place and block it was in |
//! | sightings | day, 16 bytes of txid, epoch, sequence | what happened in the mempool |
//!
//! A place is height and position, 7 bytes big-endian, so that rows are in the order of the chain. Half a hash is enough
//! of a key: to make two that agree takes 2⁶⁴ hashes, and then they are both the maker's own. Where only 8 bytes are kept
//! the row of the place has the whole.

use fjall::KeyspaceCreateOptions;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy, PartitioningPolicy};

/// A table: one keyspace of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    Meta,
    Blocks,
    Heights,
    Places,
    Txids,
    History,
    Unspent,
    Spends,
    Coins,
    Addresses,
    Transactions,
    Reorgs,
    Reverts,
    Sightings,
}

/// How a table is read.
enum Reads {
    /// Whole keys: a filter tells at once where a key is not.
    ByKey,
    /// Ranges: a filter would be of no use.
    ByPrefix,
}

impl Table {
    /// All tables. What a spend consumes is after what it makes: where a write of a large batch is cut off, the coin is
    /// in `spends` before it leaves `coins`.
    pub(crate) const ALL: [Self; 14] = [
        Self::Blocks,
        Self::Heights,
        Self::Places,
        Self::Txids,
        Self::Transactions,
        Self::History,
        Self::Spends,
        Self::Unspent,
        Self::Coins,
        Self::Addresses,
        Self::Reorgs,
        Self::Reverts,
        Self::Sightings,
        Self::Meta,
    ];

    /// Those that say what is on the best chain now. The others tell how it came about.
    pub(crate) const STATE: [Self; 9] = [
        Self::Heights,
        Self::Places,
        Self::Txids,
        Self::Transactions,
        Self::History,
        Self::Spends,
        Self::Unspent,
        Self::Coins,
        Self::Addresses,
    ];

    /// Name in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Blocks => "blocks",
            Self::Heights => "heights",
            Self::Places => "places",
            Self::Txids => "txids",
            Self::History => "history",
            Self::Unspent => "unspent",
            Self::Spends => "spends",
            Self::Coins => "coins",
            Self::Addresses => "addresses",
            Self::Transactions => "transactions",
            Self::Reorgs => "reorgs",
            Self::Reverts => "reverts",
            Self::Sightings => "sightings",
        }
    }

    /// How the store keeps it.
    pub(crate) fn settings(self) -> KeyspaceCreateOptions {
        // Filters and block indexes are in parts, of which a look reads one: whole, they are 1.7 MB and more for each file of
        // 64 MB, too much for the cache once there are many files.
        let options = KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .index_block_partitioning_policy(PartitioningPolicy::all(true))
            .filter_block_partitioning_policy(PartitioningPolicy::all(true));
        let options = match self.reads() {
            Reads::ByKey => options,
            Reads::ByPrefix => options.filter_policy(FilterPolicy::disabled()),
        };
        match self {
            // Hashes do not compress.
            Self::Txids | Self::Places | Self::Spends | Self::Unspent | Self::Coins | Self::History => {
                options.data_block_compression_policy(CompressionPolicy::disabled())
            }
            Self::Transactions => {
                options.data_block_size_policy(BlockSizePolicy::all(TRANSACTION_BLOCK_BYTES))
            }
            _ => options,
        }
    }

    fn reads(self) -> Reads {
        match self {
            Self::Txids
            | Self::History
            | Self::Unspent
            | Self::Addresses
            | Self::Reorgs
            | Self::Reverts
            | Self::Sightings => Reads::ByPrefix,
            Self::Meta
            | Self::Blocks
            | Self::Heights
            | Self::Places
            | Self::Spends
            | Self::Coins
            | Self::Transactions => Reads::ByKey,
        }
    }
}

/// Memory that one table's latest rows may take before they go to disk.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// How much of the stored transactions is compressed together.
const TRANSACTION_BLOCK_BYTES: u32 = 16 << 10;
