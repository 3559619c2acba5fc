import com.alibaba.fastjson.JSON;
import com.alibaba.fastjson.serializer.SerializerFeature;
import com.aliyun.dts.subscribe.clients.record.DefaultUserRecord;
import com.aliyun.dts.subscribe.clients.record.RecordField;
import com.aliyun.dts.subscribe.clients.record.RowImage;
import com.aliyun.dts.subscribe.clients.recordgenerator.AvroDeserializer;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.TopicPartition;

/**
 * Reads records of DTS by the vendor's SDK. Standard input has the base64 of a value in each line; for each comes a line of JSON:
 * what a listener of the SDK is given.
 */
final class Dts {
    public static void main(String[] arguments) throws Exception {
        var deserializer = new AvroDeserializer();
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        long offset = 0;
        for (var line = input.readLine(); line != null; line = input.readLine()) {
            var avro = deserializer.deserialize(Base64.getDecoder().decode(line));
            var record = new DefaultUserRecord(new TopicPartition("t", 0), offset, avro, (partition, time, at, data) -> {});
            output.println(JSON.toJSONString(told(record), SerializerFeature.WriteMapNullValue));
            offset++;
        }
        output.flush();
    }

    private static Map<String, Object> told(DefaultUserRecord record) {
        var told = new LinkedHashMap<String, Object>();
        told.put("id", record.getId());
        told.put("timestamp", record.getSourceTimestamp());
        // The SDK has no word of its own for rows of a snapshot.
        var operation = record.getAvroRecord().getOperation().name();
        told.put("operation", operation.equals("INIT") ? operation : record.getOperationType().name());
        var schema = record.getSchema();
        // What it calls the schema is the database.
        told.put("name", schema.getFullQualifiedName().orElse(null));
        told.put("table", schema.getTableName().orElse(null));
        told.put("fields", schema.getFieldNames());
        told.put("key", names(schema.getPrimaryIndexInfo().getIndexFields()));
        told.put("before", row(schema.getFields(), record.getBeforeImage()));
        told.put("after", row(schema.getFields(), record.getAfterImage()));
        return told;
    }

    private static List<String> names(List<RecordField> fields) {
        var names = new ArrayList<String>();
        fields.forEach(field -> names.add(field.getFieldName()));
        return names;
    }

    private static List<Object> row(List<RecordField> fields, RowImage image) {
        if (image == null) {
            return null;
        }
        var row = new ArrayList<Object>();
        for (var field : fields) {
            var value = image.getValue(field);
            row.add(value == null || value.getData() == null ? null : List.of(value.getType().name(), value.toString()));
        }
        return row;
    }
}
