#!/usr/bin/env python3
"""Writes the golden files of this folder with fastavro, an implementation that shares no code with ours.

Run from the repository root with the Python of tests/parts/get-python.sh. Golden files change only where the contract
does; the Rust side of the same events is in tests/golden.rs.
"""
import datetime
import io
import json
import pathlib

import fastavro
import fastavro.schema

here = pathlib.Path(__file__).parent
avro = here.parent.parent / "avro"


def internal(display):
    return bytes.fromhex(display)[::-1]


def millis(n):
    return datetime.datetime.fromtimestamp(n / 1000, datetime.timezone.utc)


def tx(display):
    return bytes.fromhex((here.parent / "raw" / f"{display}.hex").read_text().strip())


FIRST = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16"
BLOCK_170 = "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee"
WITNESS = "6c972fe677b6ed76e51c6eb9eb3f50958932919f1858948bbc1be0b1474ccca9"

# The first payment between two people, Satoshi to Hal Finney, in block 170.
raw = tx(FIRST)
first = {
    "txid": internal(FIRST), "wtxid": None, "version": 1, "lock_time": 0, "size": 275, "weight": 1100, "coinbase": False,
    "inputs": [{
        "prev_txid": raw[5:37], "prev_vout": 0, "script_sig": raw[42:114], "sequence": 0xFFFFFFFF, "witness": [],
        "prevout": {
            "value": 5_000_000_000,
            "script_pubkey": bytes.fromhex("410411db93e1dcdb8a016b49840f8c53bc1eb68a382e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac"),
            "address": None, "height": 9,
        },
    }],
    "outputs": [
        {"value": 1_000_000_000, "script_pubkey": raw[128:195], "script_type": "PUBKEY", "address": None},
        {"value": 4_000_000_000, "script_pubkey": raw[204:271], "script_type": "PUBKEY", "address": None},
    ],
    "fee": 0,
}
# A payment with one witness (P2WPKH), to a P2SH and a P2WPKH output.
raw = tx(WITNESS)
witness = {
    "txid": internal(WITNESS), "wtxid": internal("fdea4ae43e639d38c7446c1454f279aa7c0768741bb58ae6c01e88a8b23bef37"),
    "version": 2, "lock_time": int.from_bytes(raw[-4:], "little"), "size": 223, "weight": 565, "coinbase": False,
    "inputs": [{
        "prev_txid": raw[7:39], "prev_vout": 1, "script_sig": b"", "sequence": 0xFFFFFFFF,
        "witness": [raw[114:185], raw[186:219]], "prevout": None,
    }],
    "outputs": [
        {"value": int.from_bytes(raw[49:57], "little"), "script_pubkey": raw[58:81], "script_type": "SCRIPTHASH", "address": "3KEqc9m4KUygL8Gc5QY3y6TyUeqExk6dp8"},
        {"value": int.from_bytes(raw[81:89], "little"), "script_pubkey": raw[90:112], "script_type": "WITNESS_V0_KEYHASH", "address": None},
    ],
    "fee": None,
}
events = {
    "chain": {
        "sequence": 170, "action": "CONNECTED", "hash": internal(BLOCK_170),
        "prev_hash": internal("000000002a22cfee1f2c846adbd12b3e183d4f97683f85dad08a79780a84bd55"), "height": 170,
        "header": bytes.fromhex("0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70"),
        "chain_work": bytes.fromhex("ab00ab00ab".rjust(64, "0")), "time": millis(1231731025000), "median_time": millis(1231716245000),
        "tx_count": 2, "size": 490, "weight": None,
        "transactions": [
            {"partition": 3, "first_offset": 14, "records": 1, "count": 1},
            {"partition": 11, "first_offset": 1 << 40, "records": 7, "count": 1},
        ],
        "phase": "BACKFILL", "observed_at": millis(1700000000123), "epoch": 1,
        "network": "btc-mainnet",
    },
    "transaction": {
        "sequence": 170, "action": "DISCONNECTED", "block_hash": internal(BLOCK_170), "height": 170,
        "block_time": millis(1231731025000), "position": 1, "transaction": first,
    },
    "mempool": {
        "epoch": 2, "sequence": 300, "chain_sequence": -1, "kind": "ADDED", "txid": internal(WITNESS), "transaction": witness,
        "reason": None, "block_hash": None, "replaced_by": None, "first_seen": millis(1700000000000),
        "observed_at": millis(1700000000999), "source": "node:127.0.0.1:8332",
    },
    "mempool_removed": {
        "epoch": 2, "sequence": 301, "chain_sequence": 170, "kind": "REMOVED", "txid": internal(FIRST), "transaction": None,
        "reason": "CONFLICTED", "block_hash": internal(BLOCK_170), "replaced_by": internal(WITNESS), "first_seen": None,
        "observed_at": millis(1700000001000), "source": "p2p",
    },
    "status": {
        "kind": "GAP_REPAIRED", "source": "node:127.0.0.1:8332", "epoch": 2, "tip_hash": internal(BLOCK_170), "tip_height": 170,
        "chain_sequence": 170, "source_height": 171, "feed": "rawtx2", "from": 4294967290, "to": 4294967295, "recovered": 6,
        "detail": "réparé", "observed_at": millis(1700000002000),
    },
}
for name, event in events.items():
    schema = json.loads((avro / f"{name.removesuffix('_removed')}_event.avsc").read_text())
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), event, strict=True)
    (here / f"{name}.hex").write_text(f"c301{fingerprint}{out.getvalue().hex()}\n")
