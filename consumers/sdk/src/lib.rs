//! Everything a service needs to follow the event log.
//!
//! ```text
//!   <prefix>.blocks ──────┐   one active member            rows and position,
//!   <prefix>.transactions ├─► Consumer::project ─► Projection::apply ─► one atomic write, in your own store
//!   <prefix>.mempool ─────┘
//!
//!   <prefix>.transactions ──► Consumer::handle ──► Handler::handle      partitions shared by the members of a group
//!                                                     └ refused ─► <prefix>.<group>.dlq
//! ```
//!
//! # Ten minutes
//!
//! A log is the history of a chain as a node saw it, one change after another: a block is *connected* to the tip, and in a
//! reorg the tip is *disconnected* before others are connected in its place. Each change has a number, its `sequence`, and
//! comes with all transactions of its block, the undo too. The log is a file, or a Kafka cluster; nothing in your code
//! depends on which.
//!
//! A service of your own needs three crates of this repository, and the test kit for its tests:
//!
//! ```toml
//! [dependencies]
//! sluice-consumer = { path = "../chainsluice/consumers/sdk" }
//! sluice-schemas = { path = "../chainsluice/schemas" }         # the events
//! sluice-runtime = { path = "../chainsluice/runtime" }         # options, health, shutdown
//! clap = { version = "4", features = ["derive", "env"] }
//!
//! [dev-dependencies]
//! sluice-consumer-testkit = { path = "../chainsluice/consumers/testkit" }
//! ```
//!
//! `sluice up` makes such a file without a node, out of the built-in simulator. Here the test kit makes one from a script,
//! so that what follows is run by this crate's tests:
//!
//! ```
//! use sluice_consumer_testkit::{chain, pay};
//!
//! let log = chain()
//!     .mined_by("alice", [])                      // block 1
//!     .block([pay("alice", "bob", 1_000)])        // block 2
//!     .reorg(1)                                   // block 2 is disconnected
//!     .block([pay("alice", "bob", 2_500)])        // and another one connected
//!     .build();
//! ```
//!
//! ## Look
//!
//! [`Feed`] gives you the changes, one by one:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use sluice_consumer_testkit::{chain, pay};
//! # let log = chain().mined_by("alice", []).block([pay("alice", "bob", 1_000)]).reorg(1).block([]).build();
//! use std::time::Duration;
//! use sluice_consumer::{Change, Feed, Start};
//!
//! let mut feed = Feed::start(&log.chain, Start::Genesis)?;
//! while let Some(change) = feed.next(Duration::ZERO)? {
//!     let Change::Block(mut change) = change else { continue };
//!     println!("{} {:?} {}", change.event.height, change.event.action, change.event.hash);
//!     for transaction in change.transactions() {
//!         println!("  {}", transaction?.transaction.txid);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It ended because there was nothing more; with a longer wait than zero it would have slept until there is.
//!
//! ## Keep something
//!
//! Most services keep something: balances, an index, a total. Let us keep how much was paid to one script. That is a
//! [`Projection`]: state that every change brings forward, with the [`Position`] up to which it is true.
//!
//! ```
//! use std::path::PathBuf;
//! use sluice_consumer::{BlockChange, BoxError, Position, Projection};
//! use sluice_schemas::Action;
//!
//! struct Received {
//!     file: PathBuf,
//!     script: Vec<u8>,
//!     satoshis: i64,
//!     position: Option<Position>,
//! }
//!
//! impl Received {
//!     fn open(file: PathBuf, script: Vec<u8>) -> Result<Self, BoxError> {
//!         let bytes = if file.exists() { std::fs::read(&file)? } else { Vec::new() };
//!         let (satoshis, position) = match bytes.split_first_chunk() {
//!             Some((satoshis, rest)) => (i64::from_be_bytes(*satoshis), Position::from_bytes(rest)),
//!             None => (0, None),
//!         };
//!         Ok(Self { file, script, satoshis, position })
//!     }
//! }
//!
//! impl Projection for Received {
//!     fn position(&self) -> Result<Option<Position>, BoxError> {
//!         Ok(self.position)
//!     }
//!
//!     fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError> {
//!         // What a connected block does, a disconnected one takes back, in the same way.
//!         let sign = match change.event.action {
//!             Action::Connected => 1,
//!             Action::Disconnected => -1,
//!         };
//!         for transaction in change.transactions() {
//!             for output in transaction?.transaction.outputs {
//!                 if output.script_pubkey[..] == self.script[..] {
//!                     self.satoshis += sign * output.value;
//!                 }
//!             }
//!         }
//!         self.position = Some(change.after);
//!         Ok(())
//!     }
//!
//!     fn commit(&mut self) -> Result<(), BoxError> {
//!         // State and position in one atomic write: this is all that "exactly once" takes.
//!         let Some(position) = self.position else { return Ok(()) };
//!         let bytes = [&self.satoshis.to_be_bytes()[..], &position.to_bytes()].concat();
//!         let new = self.file.with_extension("new");
//!         std::fs::write(&new, bytes)?;
//!         Ok(std::fs::rename(&new, &self.file)?)
//!     }
//!
//!     fn rollback(&mut self) -> bool {
//!         // Called where the log went away in the middle of a block: what was applied of it is forgotten.
//!         let stored = Self::open(self.file.clone(), self.script.clone());
//!         stored.map(|stored| *self = stored).is_ok()
//!     }
//! }
//!
//! # fn main() -> Result<(), BoxError> {
//! # use sluice_consumer_testkit::{chain, pay, script_of};
//! # let folder = tempfile::tempdir()?;
//! # let log = chain()
//! #     .mined_by("alice", [])
//! #     .block([pay("alice", "bob", 1_000)])
//! #     .reorg(1)
//! #     .block([pay("alice", "bob", 2_500)])
//! #     .build();
//! let bob = script_of("bob", log.network().flavour()).to_bytes();
//! let mut received = Received::open(folder.path().join("bob"), bob)?;
//! sluice_consumer_testkit::project(&log.chain, &mut received)?;
//! assert_eq!(received.satoshis, 2_500);            // the 1,000 were undone
//! assert!(received.rollback());
//! assert_eq!(received.satoshis, 2_500);            // all was committed
//! # Ok(())
//! # }
//! ```
//!
//! Kill it at any moment and start it again: it goes on after the last commit, and nothing is counted twice or left out.
//! `rollback` does without a new start what that does; where it is left out, a broker that is away for long in the middle
//! of a block ends the process. A change says the position that your state must have `before`; a database that several
//! processes can reach should compare it in its transaction.
//!
//! ## Run it
//!
//! A process takes its log and its settings from the command line, serves `/livez`, `/readyz` and `/metrics`, and ends well
//! on SIGTERM:
//!
//! ```no_run
//! use clap::Parser;
//! use sluice_consumer::{BoxError, ConsumerOptions};
//! # use sluice_consumer::{BlockChange, Position, Projection};
//! use sluice_runtime::logging::{self, LoggingOptions};
//! use sluice_runtime::options::LogOptions;
//! use sluice_runtime::process::Process;
//!
//! #[derive(Parser)]
//! struct Options {
//!     #[command(flatten)]
//!     log: LogOptions,                // --log, --network …
//!     #[command(flatten)]
//!     consumer: ConsumerOptions,      // --group, --start, --health …
//!     #[command(flatten)]
//!     logging: LoggingOptions,
//! }
//!
//! # struct Received;
//! # impl Received { fn open() -> Result<Self, BoxError> { Ok(Self) } }
//! # impl Projection for Received {
//! #     fn position(&self) -> Result<Option<Position>, BoxError> { Ok(None) }
//! #     fn apply(&mut self, _: &mut BlockChange<'_>) -> Result<(), BoxError> { Ok(()) }
//! # }
//! fn main() -> Result<(), BoxError> {
//!     let options = Options::parse();
//!     logging::init(&options.logging)?;
//!     let process = Process::start(1)?;
//!     let consumer = options.consumer.consumer(options.log.open_existing()?, "received");
//!     process.serve_health(options.consumer.health, consumer.monitor())?;
//!     let mut received = Received::open()?;
//!     Ok(consumer.project(&mut received, &process.shutdown)?)
//! }
//! ```
//!
//! `received` is its *group*, the name under which `sluice status` shows how far it is. Start the process a second time,
//! with the same store: it stands by, and takes over when the first one ends. Replicas that have a store each are different
//! consumers and need different groups.
//!
//! ## Trust it
//!
//! The test kit tries what every projection must keep, on logs made by chance: that undoing is the inverse of doing, that a
//! restart at any point changes nothing, that the size of a batch changes nothing. See `Laws` in `sluice-consumer-testkit`.
//!
//! # Beyond
//!
//! - **The mempool**: name a [`MempoolInterest`], and `apply_mempool` is called, too.
//! - **Confirmations**: [`Confirmations`] tells when a transaction is seen, is so many blocks deep, and no longer is.
//! - **A place to come back to**: [`Cursor`] is a position as one word, for a client of yours; [`Feed::resume`] goes on from
//!   there. Where its block has left the chain since, the undo comes first.
//! - **No state at all**: a [`Handler`] is given every transaction, unordered and by many members at once, with retries and
//!   dead letters. See [`handler`].
//! - `examples/`: `print_blocks.rs`, `whales.rs` (a handler), `balances.rs` (a projection on SQLite).
//!
//! # What stops a consumer
//!
//! A projection never skips. A block that does not add up, a log that was replaced, a position that the log no longer
//! reaches, an error of your own: [`Consumer::project`] ends with an [`Error`] that says which, `/livez` fails with the same
//! line, and the state is as of the last commit. In every case: let a supervisor start the process again.
//!
//! While the log cannot be reached between two changes, a consumer waits and says so. Where that happens within a block, or
//! another member takes the lead, the block is half applied: a projection that has [`Projection::rollback`] goes on from its
//! last commit, after a few tries at the same place not any more; one that has not ends, as above.

mod active;
mod beside;
mod change;
mod confirmations;
mod consumer;
pub mod dlq;
mod error;
mod feed;
pub mod handler;
mod member;
mod mempool;
mod monitor;
mod options;
mod position;
mod projection;
mod watch;

pub use change::{BlockChange, Change, MempoolChange};
pub use confirmations::{Confirmation, Confirmations};
pub use consumer::{Batch, Consumer};
pub use error::Error;
pub use feed::Feed;
pub use handler::{Handler, HandlerError, HandlerSettings, KeyOrder, MempoolEvents};
pub use monitor::{Monitor, State, Status};
pub use options::ConsumerOptions;
pub use position::{BlockRef, Cursor, MempoolPosition, NotACursor, Position};
pub use projection::{MempoolInterest, Projection};
pub use sluice_log::chain::{ChainLog, Location};
pub use sluice_runtime::shutdown::Shutdown;
pub use sluice_runtime::start::Start;

/// What a projection or handler of yours failed with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
