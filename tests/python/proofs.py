"""Checks merkle proofs (BUMP, BRC-74) with the BSV SDK.

    proofs.py CASES

CASES is a JSON array of {"txid", "height", "root", "bump"}, of transactions of one block. Prints how many held.
"""

import json
import sys

from bsv.merkle_path import MerklePath


def proves(bump, txid, root):
    try:
        return MerklePath.from_hex(bump).compute_root(txid) == root
    except ValueError:
        return False


def main():
    cases = json.loads(sys.argv[1])
    for case in cases:
        bump, txid, root = case["bump"], case["txid"], case["root"]
        assert proves(bump, txid, root), case
        path = MerklePath.from_hex(bump)
        assert path.block_height == case["height"], case
        assert path.to_hex() == bump, "it is written as the SDK writes it"
        # Its end is a hash of the topmost step.
        damaged = bump[:-1] + ("0" if bump[-1] != "0" else "1")
        assert not proves(damaged, txid, root), f"one digit is another: {case}"
        assert not proves(bump, root, root), f"of nothing in it: {case}"
    print(f"{len(cases)} proofs")


main()
