"""Checks merkle proofs with other people's code: BUMP (BRC-74) with the BSV SDK, Electrum's with its server's rule.

    proofs.py CASES

CASES is a JSON array of {"txid", "root", "bump", "electrum": {"block_height", "merkle", "pos"}}. Prints how many held.
"""

import hashlib
import json
import sys

from bsv.merkle_path import MerklePath


def double_sha256(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def electrum_root(txid, merkle, pos):
    """As Electrum's protocol documentation says."""
    node = bytes.fromhex(txid)[::-1]
    for step in merkle:
        beside = bytes.fromhex(step)[::-1]
        node = double_sha256(beside + node if pos & 1 else node + beside)
        pos >>= 1
    return node[::-1].hex()


def main():
    cases = json.loads(sys.argv[1])
    for case in cases:
        path = MerklePath.from_hex(case["bump"])
        assert path.block_height == case["electrum"]["block_height"], case
        assert path.compute_root(case["txid"]) == case["root"], case
        assert path.to_hex() == case["bump"], "it is written as the SDK writes it"
        proof = case["electrum"]
        assert electrum_root(case["txid"], proof["merkle"], proof["pos"]) == case["root"], case
    print(f"{len(cases)} proofs")


main()
