import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import io.apicurio.registry.utils.converter.AvroConverter;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericEnumSymbol;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.IndexedRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.connect.json.JsonConverter;

/**
 * Reads records in Avro, and in JSON with its schema, as their consumers do.
 *
 * <p>`schema FILE`: bare Avro by a schema that the reader has, with Avro's own library. Standard input has the base64 of a value in
 * each line; for each comes a line of JSON, in which a record says its name as `@type`.
 *
 * <p>`registry URL`: Confluent's framing by Apicurio's deserializer and its converter of Kafka Connect. A line of standard input is
 * `TOPIC key|value BASE64`; for each comes `{"generic": …, "schema": …, "payload": …}`, the last two as Connect's JSON converter has them.
 *
 * <p>`connect`: JSON with its schema by that converter, into Connect's data and back. Standard input has the base64 of a key or value in
 * each line.
 */
final class Avro {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Reader reader = switch (arguments[0]) {
            case "schema" -> bySchema(new Schema.Parser().parse(Path.of(arguments[1]).toFile()));
            case "registry" -> byRegistry(arguments[1]);
            case "connect" -> byConnect();
            default -> throw new IllegalArgumentException(arguments[0]);
        };
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (var line = input.readLine(); line != null; line = input.readLine()) {
            output.println(JSON.writeValueAsString(reader.read(line.split(" "))));
        }
        output.flush();
    }

    private interface Reader {
        Object read(String[] words) throws IOException;
    }

    private static Reader bySchema(Schema schema) {
        var reader = new GenericDatumReader<Object>(schema);
        return words -> {
            var decoder = DecoderFactory.get().binaryDecoder(Base64.getDecoder().decode(words[0]), null);
            var value = plain(reader.read(null, decoder));
            if (!decoder.isEnd()) {
                throw new IOException("bytes follow the record");
            }
            return value;
        };
    }

    @SuppressWarnings("resource")
    private static Reader byConnect() {
        var json = new JsonConverter();
        // Nulls stay what they are, also where the column has a default.
        json.configure(Map.of("schemas.enable", "true", "replace.null.with.default", "false"), false);
        return words -> {
            var data = json.toConnectData("topic", Base64.getDecoder().decode(words[0]));
            return JSON.readTree(json.fromConnectData("topic", data.schema(), data.value()));
        };
    }

    @SuppressWarnings("resource")
    private static Reader byRegistry(String url) {
        Map<String, Object> settings = Map.of(
            "apicurio.registry.url", url,
            "apicurio.registry.as-confluent", "true",
            "apicurio.registry.headers.enabled", "false",
            "apicurio.registry.use-id", "contentId");
        var readers = new LinkedHashMap<Boolean, Reader>();
        for (var isKey : List.of(true, false)) {
            var deserializer = new AvroKafkaDeserializer<Object>();
            deserializer.configure(settings, isKey);
            var converter = new AvroConverter<Object>();
            converter.configure(settings, isKey);
            var json = new JsonConverter();
            json.configure(Map.of("schemas.enable", "true"), isKey);
            readers.put(isKey, words -> {
                var bytes = Base64.getDecoder().decode(words[2]);
                var data = converter.toConnectData(words[0], bytes);
                var node = (com.fasterxml.jackson.databind.node.ObjectNode)
                    JSON.readTree(json.fromConnectData(words[0], data.schema(), data.value()));
                JsonNode generic = JSON.valueToTree(plain(deserializer.deserialize(words[0], bytes)));
                node.set("generic", generic);
                return node;
            });
        }
        return words -> readers.get(words[1].equals("key")).read(words);
    }

    private static Object plain(Object value) {
        if (value instanceof IndexedRecord record) {
            var members = new LinkedHashMap<String, Object>();
            members.put("@type", record.getSchema().getName());
            for (var field : record.getSchema().getFields()) {
                members.put(field.name(), plain(record.get(field.pos())));
            }
            return members;
        }
        if (value instanceof List<?> items) {
            var plain = new ArrayList<Object>();
            items.forEach(item -> plain.add(plain(item)));
            return plain;
        }
        if (value instanceof Map<?, ?> items) {
            var plain = new LinkedHashMap<String, Object>();
            items.forEach((key, item) -> plain.put(key.toString(), plain(item)));
            return plain;
        }
        if (value instanceof ByteBuffer bytes) {
            var copy = new byte[bytes.remaining()];
            bytes.duplicate().get(copy);
            return Base64.getEncoder().encodeToString(copy);
        }
        if (value instanceof GenericFixed fixed) {
            return Base64.getEncoder().encodeToString(fixed.bytes());
        }
        if (value instanceof CharSequence || value instanceof GenericEnumSymbol) {
            return value.toString();
        }
        return value;
    }
}
