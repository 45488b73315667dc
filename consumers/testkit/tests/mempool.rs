//! The laws of projections that store their mempool view.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bitcoin::Txid;
use sluice_consumer::{BlockChange, BoxError, MempoolChange, MempoolInterest, Position, Projection};
use sluice_consumer_testkit::{Laws, chain, project, share};
use sluice_schemas::{MempoolKind, RemovalReason};

#[derive(Clone, Debug, Default)]
struct State {
    position: Option<Position>,
    waiting: BTreeSet<Txid>,
}

type Disk = Arc<Mutex<State>>;

/// What is in the mempool, stored with the position.
#[derive(Default)]
struct Waiting {
    disk: Disk,
    state: State,
}

impl Projection for Waiting {
    fn position(&self) -> Result<Option<Position>, BoxError> {
        Ok(self.disk.lock().unwrap().position)
    }

    fn apply(&mut self, change: &mut BlockChange<'_>) -> Result<(), BoxError> {
        self.state.position = Some(change.after);
        Ok(())
    }

    fn mempool(&self) -> MempoolInterest {
        MempoolInterest::Resumed
    }

    fn apply_mempool(&mut self, change: &MempoolChange<'_>) -> Result<(), BoxError> {
        let State { position, waiting } = &mut self.state;
        let new = match change.event.kind {
            MempoolKind::Reset => {
                waiting.clear();
                true
            }
            MempoolKind::Added => waiting.insert(change.event.txid),
            MempoolKind::Removed => waiting.remove(&change.event.txid),
        };
        position.as_mut().ok_or("a mempool change comes before all blocks")?.mempool = Some(change.after);
        if new { Ok(()) } else { Err("a change of the mempool comes twice".into()) }
    }

    fn commit(&mut self) -> Result<(), BoxError> {
        self.disk.lock().unwrap().clone_from(&self.state);
        Ok(())
    }
}

fn waiting() -> Laws<impl Fn(&Path) -> Waiting, impl Fn(&Waiting) -> BTreeSet<Txid>> {
    let disks: Mutex<HashMap<PathBuf, Disk>> = Mutex::default();
    let open = move |folder: &Path| {
        let disk = disks.lock().unwrap().entry(folder.to_owned()).or_default().clone();
        let state = disk.lock().unwrap().clone();
        Waiting { disk, state }
    };
    Laws::new(open, |waiting: &Waiting| waiting.disk.lock().unwrap().waiting.clone())
}

#[test]
fn a_stored_view_bears_restarts_and_batches_of_any_size() {
    let laws = waiting().cases(24);
    laws.restart();
    laws.batch();
}

#[test]
fn a_stored_view_is_the_mempool_of_the_script() {
    let mut log = chain().mined_by("alice", []).mined_by("bob", []).takeover().build();
    let mut view = Waiting::default();
    let rest = chain()
        .added([share("alice", "bob", 10), share("bob", "carol", 10)])
        .block([share("bob", "dave", 10)])
        .takeover()
        .reorg(1)
        .added([share("alice", "dave", 10)])
        .removed(RemovalReason::Expired)
        .blocks(2);
    for _ in 0..2 {
        project(&log.chain, &mut view).unwrap();
        assert_eq!(view.state.waiting, log.mempool().into_iter().collect());
        log.play(&rest);
    }
}
