import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.ByteString;
import com.google.protobuf.CodedInputStream;
import com.google.protobuf.DescriptorProtos.DescriptorProto;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.DescriptorValidationException;
import com.google.protobuf.Descriptors.EnumValueDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.Message;
import io.apicurio.registry.resolver.ParsedSchema;
import io.apicurio.registry.serde.protobuf.ProtobufKafkaDeserializer;
import io.apicurio.registry.utils.protobuf.schema.ProtobufSchema;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads records in Protobuf as a consumer does that knows the registry only.
 *
 * <p>Argument: the registry's URL. A line of standard input is `TOPIC key|value BASE64`; for each comes `{"message": NAME, "imports": […],
 * "types": …, "data": …}`: the files that its schema refers to, and the types and values of its fields by their names. What is absent is
 * null. Options of fields are none of it: Apicurio leaves them out when it compiles.
 */
final class Protobuf {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
            "apicurio.registry.url", arguments[0],
            "apicurio.registry.as-confluent", "true",
            "apicurio.registry.headers.enabled", "false",
            "apicurio.registry.use-id", "contentId");
        var readers = new LinkedHashMap<String, Reader>();
        for (var isKey : List.of(true, false)) {
            var reader = new Reader();
            reader.configure(settings, isKey);
            readers.put(isKey ? "key" : "value", reader);
        }
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        var output = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (var line = input.readLine(); line != null; line = input.readLine()) {
            var words = line.split(" ");
            var message = readers.get(words[1]).deserialize(words[0], Base64.getDecoder().decode(words[2]));
            var answer = new LinkedHashMap<String, Object>();
            answer.put("message", message.getDescriptorForType().getFullName());
            var imports = message.getDescriptorForType().getFile().getDependencies();
            answer.put("imports", imports.stream().map(file -> file.getName()).toList());
            answer.put("types", types(message.getDescriptorForType()));
            answer.put("data", plain(message));
            output.println(JSON.writeValueAsString(answer));
        }
        output.flush();
        readers.values().forEach(Reader::close);
    }

    /**
     * Apicurio's deserializer finds the schema by its id and compiles it with all that it refers to. Which message it is stands before
     * it in Confluent's framing, as indexes ("Wire format" in Confluent's documentation); Apicurio's takes them for a message of its own.
     */
    private static final class Reader extends ProtobufKafkaDeserializer<Message> {
        private final Map<FileDescriptor, FileDescriptor> files = new HashMap<>();

        /**
         * What Apicurio compiles has the word `optional`, but not the oneof that makes the runtime tell absence from 0 ("Generating proto3
         * reflection", protobuf's `docs/implementing_proto3_presence.md`).
         */
        private static FileDescriptor whole(FileDescriptor file) {
            var proto = file.toProto().toBuilder();
            proto.getMessageTypeBuilderList().forEach(Reader::addOneofs);
            try {
                return FileDescriptor.buildFrom(proto.build(), file.getDependencies().toArray(new FileDescriptor[0]));
            } catch (DescriptorValidationException error) {
                throw new IllegalStateException(error);
            }
        }

        private static void addOneofs(DescriptorProto.Builder message) {
            message.getNestedTypeBuilderList().forEach(Reader::addOneofs);
            for (var field : message.getFieldBuilderList()) {
                if (field.getProto3Optional() && !field.hasOneofIndex()) {
                    field.setOneofIndex(message.getOneofDeclCount());
                    message.addOneofDeclBuilder().setName("_" + field.getName());
                }
            }
        }

        @Override
        protected Message internalReadData(
            org.apache.kafka.common.header.Headers headers,
            ParsedSchema<ProtobufSchema> schema,
            ByteBuffer buffer,
            int start,
            int length) {
            try {
                var input = CodedInputStream.newInstance(buffer.array(), start, length);
                var types = files.computeIfAbsent(schema.getParsedSchema().getFileDescriptor(), Reader::whole).getMessageTypes();
                int count = input.readSInt32();
                var descriptor = types.get(count == 0 ? 0 : input.readSInt32());
                for (int depth = 1; depth < count; depth++) {
                    descriptor = descriptor.getNestedTypes().get(input.readSInt32());
                }
                var message = DynamicMessage.parseFrom(descriptor, input);
                if (!message.getUnknownFields().asMap().isEmpty()) {
                    throw new IOException("fields that the schema does not have: " + message.getUnknownFields());
                }
                return message;
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    }

    private static Object types(Descriptor message) {
        var types = new LinkedHashMap<String, Object>();
        for (var field : message.getFields()) {
            var isMessage = field.getJavaType() == FieldDescriptor.JavaType.MESSAGE;
            // Rows stand in the envelope.
            var isRow = isMessage && field.getMessageType().getName().equals("Value");
            var name = isMessage ? field.getMessageType().getName() : field.getType().name().toLowerCase();
            types.put(field.getName(), isRow ? types(field.getMessageType()) : name);
        }
        return types;
    }

    private static Object plain(Object value) {
        if (value instanceof Message message) {
            var members = new LinkedHashMap<String, Object>();
            for (var field : message.getDescriptorForType().getFields()) {
                var isAbsent = field.hasPresence() && !message.hasField(field);
                members.put(field.getName(), isAbsent ? null : plain(message.getField(field)));
            }
            return members;
        }
        if (value instanceof List<?> items) {
            var plain = new ArrayList<Object>();
            items.forEach(item -> plain.add(plain(item)));
            return plain;
        }
        if (value instanceof ByteString bytes) {
            return Base64.getEncoder().encodeToString(bytes.toByteArray());
        }
        return value instanceof EnumValueDescriptor symbol ? symbol.getName() : value;
    }
}
