//! Who has how much: a projection with a store of its own.
//!
//! ```sh
//! cargo run --example balances -- --db balances.db      # until Ctrl-C; goes on where it was at the next start
//! sqlite3 balances.db 'SELECT * FROM balances ORDER BY satoshis DESC LIMIT 10'
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rusqlite::{Connection, OptionalExtension as _, params};
use sluice_consumer::{BlockChange, BoxError, ConsumerOptions, Position, Projection};
use sluice_runtime::logging::{self, LoggingOptions};
use sluice_runtime::options::{self, LogOptions};
use sluice_runtime::process::Process;
use sluice_schemas::{Action, TransactionEvent};

/// Keeps every output in SQLite, and sums up what is unspent by script.
#[derive(Parser)]
#[command(name = "balances", version)]
struct Options {
    /// The database; made where it is missing
    #[arg(long, env = "BALANCES_DB", default_value = "balances.db", value_name = "FILE")]
    db: PathBuf,
    #[command(flatten)]
    log: LogOptions,
    #[command(flatten)]
    consumer: ConsumerOptions,
    #[command(flatten)]
    logging: LoggingOptions,
}

/// An output stays in its table when it is spent, so that a reorg can give it back.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS outputs (
        txid BLOB, vout INTEGER, script BLOB NOT NULL, satoshis INTEGER NOT NULL, spent INTEGER NOT NULL,
        PRIMARY KEY (txid, vout)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS position (only INTEGER PRIMARY KEY CHECK (only = 1), bytes BLOB NOT NULL);
    CREATE VIEW IF NOT EXISTS balances AS
        SELECT hex(script) AS script, sum(satoshis) AS satoshis FROM outputs WHERE NOT spent GROUP BY script;";

/// The state: rows and position in one database, changed in one transaction.
pub struct Balances {
    /// Open to queries.
    pub db: Connection,
}

impl Balances {
    /// Opens the database, or makes it.
    pub fn open(path: &Path) -> Result<Self, BoxError> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "wal")?;
        db.execute_batch(TABLES)?;
        Ok(Self { db })
    }

    /// One function for both directions: what a connected block does, a disconnected one takes back.
    fn transaction(&self, event: &TransactionEvent) -> Result<(), BoxError> {
        let connected = event.action == Action::Connected;
        let txid = AsRef::<[u8]>::as_ref(&event.transaction.txid);
        let mut put = self.db.prepare_cached("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, FALSE)")?;
        let mut delete = self.db.prepare_cached("DELETE FROM outputs WHERE txid = ? AND vout = ?")?;
        let mut spend = self.db.prepare_cached("UPDATE outputs SET spent = ? WHERE txid = ? AND vout = ?")?;
        for (vout, output) in (0_i64..).zip(&event.transaction.outputs) {
            match connected {
                true => put.execute(params![txid, vout, &output.script_pubkey[..], output.value])?,
                false => delete.execute(params![txid, vout])?,
            };
        }
        for input in &event.transaction.inputs {
            let prev_txid = AsRef::<[u8]>::as_ref(&input.prev_txid);
            spend.execute(params![connected, prev_txid, input.prev_vout])?;
        }
        Ok(())
    }
}

impl Projection for Balances {
    fn position(&self) -> Result<Option<Position>, BoxError> {
        let mut query = self.db.prepare("SELECT bytes FROM position")?;
        let bytes: Option<Vec<u8>> = query.query_row([], |row| row.get(0)).optional()?;
        bytes
            .map(|bytes| Position::from_bytes(&bytes).ok_or("the position cannot be read".into()))
            .transpose()
    }

    fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError> {
        if self.db.is_autocommit() {
            self.db.execute_batch("BEGIN")?;
        }
        for transaction in change.transactions() {
            self.transaction(&transaction?)?;
        }
        self.db.execute("INSERT OR REPLACE INTO position VALUES (1, ?)", [change.after.to_bytes()])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), BoxError> {
        Ok(self.db.execute_batch("COMMIT")?)
    }

    fn rollback(&mut self) -> bool {
        self.db.is_autocommit() || self.db.execute_batch("ROLLBACK").is_ok()
    }
}

fn main() -> ExitCode {
    options::main(run)
}

fn run(options: &Options) -> anyhow::Result<()> {
    logging::init(&options.logging)?;
    let process = Process::start(1)?;
    let consumer = options.consumer.consumer(options.log.open_existing()?, "balances");
    process.serve_health(options.consumer.health, consumer.monitor())?;
    let mut balances = Balances::open(&options.db).map_err(|error| anyhow::anyhow!(error))?;
    Ok(consumer.project(&mut balances, &process.shutdown)?)
}
