"""A consumer in another language: rebuilds a node's chain and mempool from the topics alone.

    consume.py BOOTSTRAP PREFIX --schemas DIR
    consume.py BOOTSTRAP PREFIX --registry URL

Prints one JSON object: {"chain": [{"height", "hash", "txids"}, …], "mempool": [txid, …]}. Uses nothing but
Kafka's client and an Avro library, and reads only what is committed.
"""

import argparse
import hashlib
import io
import json
import pathlib
import sys
import urllib.request

import confluent_kafka
import fastavro
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

# What a topic without messages for this long still owes us: nothing, the end of each partition is announced.
PATIENCE_SECONDS = 60


class LocalSchemas:
    """Avro single-object encoding: C3 01, then the schema's fingerprint."""

    def __init__(self, directory):
        self.known = {}
        for path in pathlib.Path(directory).glob("*.avsc"):
            schema = json.loads(path.read_text())
            mark = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
            self.known[bytes.fromhex(mark)] = parse_schema(schema)

    def decode(self, value):
        assert value[:2] == b"\xc3\x01", f"not single-object encoded: {value[:10].hex()}"
        mark = value[2:10]
        # fastavro gives the fingerprint as the specification's text does, the encoding has it little-endian.
        schema = self.known.get(mark) or self.known[mark[::-1]]
        return fastavro.schemaless_reader(io.BytesIO(value[10:]), schema)


class Registry:
    """Confluent's wire format: 00, then the schema's id in the registry."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.known = {}

    def decode(self, value):
        assert value[:1] == b"\x00", f"not in Confluent's wire format: {value[:10].hex()}"
        number = int.from_bytes(value[1:5], "big")
        if number not in self.known:
            with urllib.request.urlopen(f"{self.url}/schemas/ids/{number}") as answer:
                self.known[number] = parse_schema(json.loads(json.load(answer)["schema"]))
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), self.known[number])


def read(bootstrap, topic):
    """All committed values of a topic with their partition and offset, chunks joined."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "consume.py, which commits nothing",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    })
    partitions = consumer.list_topics(topic, timeout=PATIENCE_SECONDS).topics[topic].partitions
    assert partitions, f"there is no topic {topic}"
    consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions])
    open_partitions, parts = set(partitions), {}
    while open_partitions:
        message = consumer.poll(PATIENCE_SECONDS)
        assert message is not None, f"{topic}: nothing came in {PATIENCE_SECONDS} s"
        if message.error():
            if message.error().code() != confluent_kafka.KafkaError._PARTITION_EOF:
                raise confluent_kafka.KafkaException(message.error())
            open_partitions.discard(message.partition())
            continue
        headers = dict(message.headers() or [])
        value = message.value()
        if value is None:
            continue  # It has ended a transaction, and says nothing.
        if "chunk-count" in headers:
            so_far = parts.setdefault(message.partition(), [])
            assert int(headers["chunk-index"]) == len(so_far), "chunks are consecutive"
            so_far.append(value)
            if len(so_far) < int(headers["chunk-count"]):
                continue
            value = b"".join(parts.pop(message.partition()))
            assert hashlib.sha256(value).hexdigest() == headers["chunk-sha256"].decode(), "a chunk is damaged"
        yield message.partition(), message.offset(), value
    consumer.close()


def display(internal):
    return internal[::-1].hex()


def chain(bootstrap, prefix, schemas):
    blocks = []
    for number, (_, _, value) in enumerate(read(bootstrap, f"{prefix}.blocks")):
        event = schemas.decode(value)
        assert event["sequence"] == number, f"sequence {event['sequence']} where {number} is due"
        if event["action"] == "CONNECTED":
            assert event["height"] == len(blocks), "one above the tip"
            assert not blocks or event["prev_hash"] == blocks[-1]["hash"], "on the tip"
            blocks.append(event)
        else:
            assert blocks.pop()["hash"] == event["hash"], "the tip goes first"
    transactions, records = {}, 0
    for partition, offset, value in read(bootstrap, f"{prefix}.transactions"):
        event = schemas.decode(value)
        records += 1
        transactions.setdefault(event["sequence"], []).append(
            (event["position"], display(event["transaction"]["txid"]), partition, event["block_hash"])
        )
    for block in blocks:
        mine = sorted(transactions.get(block["sequence"], []))
        assert [position for position, *_ in mine] == list(range(block["tx_count"])), f"all of block {block['height']}"
        assert all(block_hash == block["hash"] for *_, block_hash in mine)
        for named in block["transactions"]:
            assert named["count"] == sum(partition == named["partition"] for _, _, partition, _ in mine)
        yield {"height": block["height"], "hash": display(block["hash"]), "txids": [txid for _, txid, *_ in mine]}
    print(f"{records} transaction events", file=sys.stderr)


def mempool(bootstrap, prefix, schemas):
    events = [schemas.decode(value) for _, _, value in read(bootstrap, f"{prefix}.mempool")]
    newest = max((event["epoch"] for event in events), default=0)
    view = set()
    for event in sorted((e for e in events if e["epoch"] == newest), key=lambda e: e["sequence"]):
        if event["kind"] == "RESET":
            view.clear()
        elif event["kind"] == "ADDED":
            view.add(display(event["txid"]))
        else:
            view.remove(display(event["txid"]))
    return sorted(view)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("prefix")
    parser.add_argument("--schemas")
    parser.add_argument("--registry")
    options = parser.parse_args()
    schemas = Registry(options.registry) if options.registry else LocalSchemas(options.schemas)
    view = {
        "chain": list(chain(options.bootstrap, options.prefix, schemas)),
        "mempool": mempool(options.bootstrap, options.prefix, schemas),
    }
    json.dump(view, sys.stdout)


main()
