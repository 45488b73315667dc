import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A consumer in Java: rebuilds a node's chain and mempool from the topics alone.
 *
 * <pre>
 * java -cp 'LIB/*' Reader.java BOOTSTRAP PREFIX --schemas DIR
 * java -cp 'LIB/*' Reader.java BOOTSTRAP PREFIX --registry URL
 * </pre>
 *
 * Prints one JSON object: {"chain": [{"height", "hash", "txids"}, …], "mempool": [txid, …]}. Uses nothing but Kafka's
 * client and Avro, which pom.xml names, and reads only what is committed.
 */
public final class Reader {
    /** How long a topic may owe us what it says it has. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    public record Block(int height, String hash, List<String> txids) {}

    public record View(List<Block> chain, Iterable<String> mempool) {}

    public static void main(String[] arguments) throws Exception {
        check(arguments.length == 4, "takes BOOTSTRAP PREFIX, then --schemas DIR or --registry URL");
        var reader = new Reader(arguments[0], arguments[1], switch (arguments[2]) {
            case "--schemas" -> atHand(new File(arguments[3]));
            case "--registry" -> inRegistry(arguments[3]);
            default -> throw new IllegalArgumentException(arguments[2]);
        });
        new ObjectMapper().writeValue(System.out, new View(reader.chain(), reader.mempool()));
    }

    private final String bootstrap;
    private final String prefix;
    private final Schemas schemas;

    private Reader(String bootstrap, String prefix, Schemas schemas) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.schemas = schemas;
    }

    /** The best chain: each block where its parent was the tip, the undone ones taken off again. */
    private List<Block> chain() throws Exception {
        var connected = new ArrayList<GenericRecord>();
        long sequence = 0;
        for (var event : read("blocks", "chain_event").get(0).values()) {
            check(number(event, "sequence") == sequence++, "sequence grows by one");
            if (text(event, "action").equals("CONNECTED")) {
                check(number(event, "height") == connected.size(), "one above the tip");
                check(connected.isEmpty() || hash(event, "prev_hash").equals(hash(tip(connected), "hash")), "on the tip");
                connected.add(event);
            } else {
                check(hash(event, "hash").equals(hash(tip(connected), "hash")), "the tip goes first");
                connected.remove(connected.size() - 1);
            }
        }
        var transactions = read("transactions", "transaction_event");
        var chain = new ArrayList<Block>();
        for (var block : connected) {
            chain.add(new Block((int) number(block, "height"), hash(block, "hash"), txids(block, transactions)));
        }
        return chain;
    }

    /** A block's txids in their order, from the offsets that its event names and nowhere else. */
    private static List<String> txids(GenericRecord block, List<NavigableMap<Long, GenericRecord>> transactions) {
        var byPosition = new TreeMap<Long, String>();
        for (var range : (Iterable<?>) block.get("transactions")) {
            var named = (GenericRecord) range;
            long first = number(named, "first_offset");
            var events = transactions.get((int) number(named, "partition")).subMap(first, first + number(named, "records"));
            check(events.size() == number(named, "count"), "as many as its event says");
            for (var event : events.values()) {
                check(hash(event, "block_hash").equals(hash(block, "hash")), "of this block");
                check(number(event, "sequence") == number(block, "sequence"), "of this time that it was connected");
                byPosition.put(number(event, "position"), hash((GenericRecord) event.get("transaction"), "txid"));
            }
        }
        check(byPosition.size() == number(block, "tx_count"), "all of the block");
        check(byPosition.firstKey() == 0 && byPosition.lastKey() == byPosition.size() - 1, "each at its position");
        return List.copyOf(byPosition.values());
    }

    /** The mempool: the events of the newest epoch in their order. */
    private Iterable<String> mempool() throws Exception {
        var events = new ArrayList<GenericRecord>();
        read("mempool", "mempool_event").forEach(partition -> events.addAll(partition.values()));
        events.sort(Comparator.comparingLong((GenericRecord e) -> number(e, "epoch")).thenComparing(e -> number(e, "sequence")));
        var view = new TreeSet<String>();
        for (var event : events) {
            switch (text(event, "kind")) {
                case "RESET" -> view.clear();
                case "ADDED" -> view.add(hash(event, "txid"));
                case "REMOVED" -> check(view.remove(hash(event, "txid")), "what is removed was there");
                default -> throw new IllegalStateException("a kind that the schema does not know");
            }
        }
        return view;
    }

    /** All committed events of a topic: of each partition by their first offset. */
    private List<NavigableMap<Long, GenericRecord>> read(String topic, String schema) throws Exception {
        var decoder = schemas.decoder(schema);
        var events = new ArrayList<NavigableMap<Long, GenericRecord>>();
        var settings = Map.<String, Object>of("bootstrap.servers", bootstrap, "isolation.level", "read_committed",
            "enable.auto.commit", false, "auto.offset.reset", "none");
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            var partitions = consumer.partitionsFor(prefix + "." + topic).stream()
                .map(partition -> new TopicPartition(partition.topic(), partition.partition()))
                .sorted(Comparator.comparing(TopicPartition::partition)).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            var joiners = new ArrayList<Joiner>();
            for (var partition : partitions) {
                events.add(new TreeMap<>());
                joiners.add(new Joiner());
            }
            // Not by counting records: the markers that end a transaction have offsets too.
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                var before = partitions.stream().map(consumer::position).toList();
                for (var record : consumer.poll(PATIENCE)) {
                    var joiner = joiners.get(record.partition());
                    var value = joiner.push(record);
                    if (value != null) {
                        events.get(record.partition()).put(joiner.firstOffset, decoder.decode(value));
                    }
                }
                check(!before.equals(partitions.stream().map(consumer::position).toList()), "nothing came from " + topic);
            }
        }
        return events;
    }

    /** Joins the chunks of one partition's values that are larger than a record. */
    private static final class Joiner {
        long firstOffset;
        private final List<byte[]> chunks = new ArrayList<>();

        /** The whole value that ends with this record, or null; also for a record without a value, which says nothing. */
        byte[] push(ConsumerRecord<byte[], byte[]> record) throws Exception {
            if (chunks.isEmpty()) firstOffset = record.offset();
            var count = header(record, "chunk-count");
            if (count == null) {
                check(chunks.isEmpty(), "chunks are consecutive");
                return record.value();
            }
            check(Integer.parseInt(header(record, "chunk-index")) == chunks.size(), "chunks are consecutive");
            chunks.add(record.value());
            if (chunks.size() < Integer.parseInt(count)) return null;
            var whole = ByteBuffer.allocate(chunks.stream().mapToInt(chunk -> chunk.length).sum());
            chunks.forEach(whole::put);
            chunks.clear();
            var digest = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(whole.array()));
            check(digest.equals(header(record, "chunk-sha256")), "a chunk is damaged");
            return whole.array();
        }

        private static String header(ConsumerRecord<byte[], byte[]> record, String name) {
            var header = record.headers().lastHeader(name);
            return header == null ? null : new String(header.value());
        }
    }

    private interface Decoder {
        GenericRecord decode(byte[] value) throws IOException, InterruptedException;
    }

    private interface Schemas {
        Decoder decoder(String schema) throws IOException;
    }

    /** Avro's single-object encoding: C3 01, then the schema's fingerprint. Avro does all of it. */
    private static Schemas atHand(File directory) {
        return name -> {
            var schema = new Schema.Parser().parse(new File(directory, name + ".avsc"));
            return new BinaryMessageDecoder<GenericRecord>(GenericData.get(), schema)::decode;
        };
    }

    /** Confluent's wire format: 00, then the schema's id in the registry. */
    private static Schemas inRegistry(String url) {
        var http = HttpClient.newHttpClient();
        var known = new HashMap<Integer, GenericDatumReader<GenericRecord>>();
        return name -> value -> {
            var head = ByteBuffer.wrap(value);
            check(head.get() == 0, "it is in Confluent's wire format");
            int id = head.getInt();
            if (!known.containsKey(id)) {
                var request = HttpRequest.newBuilder(URI.create(url + "/schemas/ids/" + id)).timeout(PATIENCE).build();
                var answer = http.send(request, BodyHandlers.ofString());
                check(answer.statusCode() == 200, "the registry knows schema " + id);
                var schema = new ObjectMapper().readTree(answer.body()).get("schema").textValue();
                known.put(id, new GenericDatumReader<>(new Schema.Parser().parse(schema)));
            }
            var body = DecoderFactory.get().binaryDecoder(value, head.position(), head.remaining(), null);
            return known.get(id).read(null, body);
        };
    }

    private static GenericRecord tip(List<GenericRecord> connected) {
        return connected.get(connected.size() - 1);
    }

    private static long number(GenericRecord event, String field) {
        return ((Number) event.get(field)).longValue();
    }

    private static String text(GenericRecord event, String field) {
        return event.get(field).toString();
    }

    /** As people write it: in reverse. */
    private static String hash(GenericRecord event, String field) {
        var bytes = ((GenericFixed) event.get(field)).bytes().clone();
        for (int i = 0, j = bytes.length - 1; i < j; i++, j--) {
            byte swapped = bytes[i];
            bytes[i] = bytes[j];
            bytes[j] = swapped;
        }
        return HexFormat.of().formatHex(bytes);
    }

    private static void check(boolean holds, String promise) {
        if (!holds) throw new IllegalStateException("not so: " + promise);
    }
}
