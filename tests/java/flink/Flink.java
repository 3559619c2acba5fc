import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.canal.CanalJsonDeserializationSchema;
import org.apache.flink.formats.json.debezium.DebeziumJsonDeserializationSchema;
import org.apache.flink.formats.json.maxwell.MaxwellJsonDeserializationSchema;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.utils.LogicalTypeParser;
import org.apache.flink.table.types.utils.TypeConversions;
import org.apache.flink.util.Collector;
import org.apache.flink.util.SimpleUserCodeClassLoader;
import org.apache.flink.util.UserCodeClassLoader;

/**
 * Reads records with the deserializers of Flink's formats, as a Flink job with such a table would.
 *
 * <p>Arguments: format, `SQL` or `ISO-8601` (its option `timestamp-format.standard`), the row type as Flink's SQL has it.
 * Standard input has the base64 of a record's value in each line, `-` for a tombstone. For each line comes one line of JSON:
 * the rows as `[["+I", [value, …]], …]`, or `{"error": …}`.
 */
final class Flink {
    private static final DateTimeFormatter MOMENT = DateTimeFormatter.ofPattern("uuuu-MM-dd HH:mm:ss.SSSSSS");

    public static void main(String[] arguments) throws Exception {
        var type = (RowType) LogicalTypeParser.parse(arguments[2], Flink.class.getClassLoader());
        var schema = deserializer(arguments[0], timestamps(arguments[1]), type);
        schema.open(new Context());
        var json = new ObjectMapper();
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (var line = input.readLine(); line != null; line = input.readLine()) {
            var value = line.equals("-") ? null : Base64.getDecoder().decode(line);
            output.println(json.writeValueAsString(answer(schema, type, value)));
        }
        output.flush();
    }

    private static Object answer(DeserializationSchema<RowData> schema, RowType type, byte[] value) {
        var rows = new ArrayList<Object>();
        try {
            schema.deserialize(value, new Collector<>() {
                @Override
                public void collect(RowData row) {
                    rows.add(List.of(row.getRowKind().shortString(), values(row, type)));
                }

                @Override
                public void close() {}
            });
            return rows;
        } catch (Exception error) {
            return Collections.singletonMap("error", messages(error));
        }
    }

    private static String messages(Throwable error) {
        var text = new StringBuilder();
        for (; error != null; error = error.getCause()) {
            text.append(error).append("; ");
        }
        return text.toString();
    }

    private static TimestampFormat timestamps(String standard) {
        return standard.equals("SQL") ? TimestampFormat.SQL : TimestampFormat.ISO_8601;
    }

    private static DeserializationSchema<RowData> deserializer(String format, TimestampFormat timestamps, RowType type) {
        DataType data = TypeConversions.fromLogicalToDataType(type);
        TypeInformation<RowData> produced = InternalTypeInfo.of(type);
        return switch (format) {
            case "debezium-json" ->
                new DebeziumJsonDeserializationSchema(data, List.of(), produced, false, false, timestamps);
            case "debezium-json-with-schema" ->
                new DebeziumJsonDeserializationSchema(data, List.of(), produced, true, false, timestamps);
            case "canal-json" ->
                CanalJsonDeserializationSchema.builder(data, List.of(), produced).setTimestampFormat(timestamps).build();
            case "maxwell-json" ->
                new MaxwellJsonDeserializationSchema(data, List.of(), produced, false, timestamps);
            default -> throw new IllegalArgumentException("no format of Flink: " + format);
        };
    }

    private static List<Object> values(RowData row, RowType type) {
        var values = new ArrayList<Object>();
        for (var at = 0; at < type.getFieldCount(); at++) {
            var column = type.getTypeAt(at);
            values.add(value(RowData.createFieldGetter(column, at).getFieldOrNull(row), column));
        }
        return values;
    }

    /** A value as text; arrays as arrays of texts. */
    private static Object value(Object value, LogicalType type) {
        if (value == null) {
            return null;
        }
        return switch (type.getTypeRoot()) {
            case DECIMAL -> ((org.apache.flink.table.data.DecimalData) value).toBigDecimal().toPlainString();
            case DATE -> LocalDate.ofEpochDay((int) value).toString();
            case TIME_WITHOUT_TIME_ZONE -> LocalTime.ofNanoOfDay((int) value * 1_000_000L)
                .format(DateTimeFormatter.ofPattern("HH:mm:ss.SSS"));
            case TIMESTAMP_WITHOUT_TIME_ZONE ->
                moment(((org.apache.flink.table.data.TimestampData) value).toLocalDateTime());
            case TIMESTAMP_WITH_LOCAL_TIME_ZONE -> {
                Instant at = ((org.apache.flink.table.data.TimestampData) value).toInstant();
                yield moment(LocalDateTime.ofInstant(at, ZoneOffset.UTC));
            }
            case BINARY, VARBINARY -> "\\x" + HexFormat.of().formatHex((byte[]) value);
            case ARRAY -> items((ArrayData) value, ((ArrayType) type).getElementType());
            default -> value.toString();
        };
    }

    private static List<Object> items(ArrayData array, LogicalType type) {
        var items = new ArrayList<Object>();
        for (var at = 0; at < array.size(); at++) {
            items.add(value(ArrayData.createElementGetter(type).getElementOrNull(array, at), type));
        }
        return items;
    }

    private static String moment(LocalDateTime at) {
        return at.format(MOMENT);
    }

    /** What a task manager hands to a deserializer. */
    private static final class Context implements DeserializationSchema.InitializationContext {
        @Override
        public MetricGroup getMetricGroup() {
            return new UnregisteredMetricsGroup();
        }

        @Override
        public UserCodeClassLoader getUserCodeClassLoader() {
            return SimpleUserCodeClassLoader.create(Flink.class.getClassLoader());
        }
    }
}
