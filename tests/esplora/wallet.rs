//! A BDK wallet that knows nothing of us but Esplora's API.

use bdk_esplora::EsploraExt;
use bdk_wallet::{KeychainKind, SignOptions, Wallet};
use sluice_test_support::bitcoin::bip32::Xpriv;
use sluice_test_support::bitcoin::{Address, Amount, FeeRate, Network, Transaction};

use crate::served::Served;

/// Addresses without a transaction after which a scan ends.
const STOP_GAP: usize = 5;
/// Requests at once.
const PARALLEL: usize = 4;
const KEY: &str = "tprv8ZgxMBicQKsPdy6LMhUtFHAgpocR8GC6QmwMSFpZs7h6Eziw3SpThFfczTDh5rW2krkqffa11UpX3XkeTTB2FvzZKWXqPY54Y6Rq4AQ5R8L";

pub(crate) struct Bdk(Wallet);

impl Bdk {
    /// With descriptors of a kind, say `wpkh`.
    pub(crate) fn new(kind: &str) -> Self {
        let descriptor = |chain: u32| format!("{kind}({KEY}/84'/1'/0'/{chain}/*)");
        let wallet = Wallet::create(descriptor(0), descriptor(1)).network(Network::Regtest);
        Self(wallet.create_wallet_no_persist().unwrap())
    }

    pub(crate) fn next_address(&mut self) -> Address {
        self.0.reveal_next_address(KeychainKind::External).address
    }

    /// Finds everything, as a wallet that is new.
    pub(crate) fn scan(&mut self, served: &Served) {
        let request = self.0.start_full_scan().build();
        let update = served.client.full_scan(request, STOP_GAP, PARALLEL).unwrap();
        self.0.apply_update(update).unwrap();
    }

    /// Finds what is new.
    pub(crate) fn sync(&mut self, served: &Served) {
        let request = self.0.start_sync_with_revealed_spks().build();
        let update = served.client.sync(request, PARALLEL).unwrap();
        self.0.apply_update(update).unwrap();
    }

    /// Satoshis that are confirmed, and that are not yet.
    pub(crate) fn balance(&self) -> (u64, u64) {
        let balance = self.0.balance();
        let waiting = balance.trusted_pending + balance.untrusted_pending;
        (balance.confirmed.to_sat(), waiting.to_sat())
    }

    pub(crate) fn transactions(&self) -> usize {
        self.0.transactions().count()
    }

    /// A signed payment.
    pub(crate) fn pay(&mut self, address: &Address, satoshis: u64) -> Transaction {
        let mut builder = self.0.build_tx();
        builder.add_recipient(address.script_pubkey(), Amount::from_sat(satoshis));
        builder.fee_rate(FeeRate::from_sat_per_vb(5).unwrap());
        let mut psbt = builder.finish().unwrap();
        let key: Xpriv = KEY.parse().unwrap();
        psbt.sign(&key, self.0.secp_ctx()).unwrap();
        assert!(self.0.finalize_psbt(&mut psbt, SignOptions::default()).unwrap(), "all is signed");
        psbt.extract_tx().unwrap()
    }
}
