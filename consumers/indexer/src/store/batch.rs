//! Rows on their way to the store.

use super::tables::Table;

/// Puts and deletes, table by table; of those with the same key the last one counts. Rows lie one after the other in few
/// large pieces of memory, because there are millions of them.
#[derive(Default)]
pub(crate) struct Batch {
    tables: [Rows; Table::ALL.len()],
    bytes: usize,
}

/// One table's.
#[derive(Default)]
struct Rows {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

/// One row: where in the arena its key and its value are.
#[derive(Clone, Copy)]
struct Entry {
    /// The first eight bytes of the key, which decide nearly every comparison.
    head: u64,
    offset: u32,
    key_len: u16,
    /// `DELETED`, or the length of the value.
    value_len: u32,
}

const DELETED: u32 = u32::MAX;

impl Batch {
    /// Bytes of memory that the rows take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts a row.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let value_len =
            u32::try_from(value.len()).expect("a row is smaller than a record of the log, at most 2 GB");
        self.push(table, key, value, value_len);
    }

    /// Deletes a row, if it is there.
    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        self.push(table, key, &[], DELETED);
    }

    fn push(&mut self, table: Table, key: &[u8], value: &[u8], value_len: u32) {
        let rows = &mut self.tables[table as usize];
        let offset = u32::try_from(rows.arena.len()).expect("a batch is flushed long before 4 GB");
        rows.arena.extend_from_slice(key);
        rows.arena.extend_from_slice(value);
        let key_len = u16::try_from(key.len()).expect("keys are hashes, places and addresses");
        rows.entries.push(Entry { head: head(key), offset, key_len, value_len });
        self.bytes += key.len() + value.len() + size_of::<Entry>();
    }

    /// One table's rows in the order of their keys, each key once; a deleted one has no value.
    pub(crate) fn sorted(&mut self, table: Table) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        let Rows { arena, entries } = &mut self.tables[table as usize];
        let arena = &*arena;
        // Later rows have later offsets, so the order among equal keys is that of time.
        entries.sort_unstable_by(|a, b| {
            a.head.cmp(&b.head).then_with(|| a.key(arena).cmp(b.key(arena))).then(a.offset.cmp(&b.offset))
        });
        // Keeps the last of each key: `dedup_by` keeps the first, so it is given the contents of the later one.
        entries.dedup_by(|later, kept| {
            let same = later.head == kept.head && later.key(arena) == kept.key(arena);
            if same {
                *kept = *later;
            }
            same
        });
        entries.iter().map(move |entry| (entry.key(arena), entry.value(arena)))
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for rows in &mut self.tables {
            rows.arena.clear();
            rows.entries.clear();
        }
        self.bytes = 0;
    }
}

impl Entry {
    fn key(self, arena: &[u8]) -> &[u8] {
        let start = self.offset as usize;
        &arena[start..start + usize::from(self.key_len)]
    }

    fn value(self, arena: &[u8]) -> Option<&[u8]> {
        let start = self.offset as usize + usize::from(self.key_len);
        (self.value_len != DELETED).then(|| &arena[start..start + self.value_len as usize])
    }
}

fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_rows_with_one_key_counts_and_keys_are_in_order() {
        let mut batch = Batch::default();
        batch.put(Table::Txids, b"bbbbbbbbb2", b"old");
        batch.put(Table::Txids, b"bbbbbbbbb1", b"x");
        batch.put(Table::Txids, b"a", b"y");
        batch.delete(Table::Txids, b"bbbbbbbbb1");
        batch.put(Table::Txids, b"bbbbbbbbb2", b"new");
        batch.put(Table::Places, b"c", b"");
        let rows: Vec<_> = batch.sorted(Table::Txids).collect();
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"y")), (b"bbbbbbbbb1", None), (b"bbbbbbbbb2", Some(b"new"))];
        assert_eq!(rows, expected);
        assert_eq!(batch.sorted(Table::Places).collect::<Vec<_>>(), [(&b"c"[..], Some(&b""[..]))]);
        batch.clear();
        assert!(batch.is_empty() && batch.sorted(Table::Txids).len() == 0);
    }
}
