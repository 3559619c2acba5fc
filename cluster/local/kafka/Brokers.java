import java.util.ArrayList;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.TopicPartition;

/**
 * Scales a running cluster. Arguments: address of a broker that stays, then `move FROM TO SECONDS` (every replica of
 * node FROM goes to node TO; waits until all are there) or `forget NODE` (a broker that was stopped for good).
 */
class Brokers {
    public static void main(String[] arguments) throws Exception {
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        try (var admin = Admin.create(settings)) {
            switch (arguments[1]) {
                case "move" -> move(admin, number(arguments[2]), number(arguments[3]), number(arguments[4]));
                case "forget" -> admin.unregisterBroker(number(arguments[2])).all().get();
                default -> throw new IllegalArgumentException(arguments[1]);
            }
        }
    }

    private static int number(String text) {
        return Integer.parseInt(text);
    }

    private static void move(Admin admin, int from, int to, int seconds) throws Exception {
        var end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        // Topics may be made meanwhile: over only when a look finds nothing any more.
        while (true) {
            var moving = admin.listPartitionReassignments().reassignments().get();
            if (moving.isEmpty()) {
                var left = replicasOf(admin, from, to);
                if (left.isEmpty()) {
                    return;
                }
                admin.alterPartitionReassignments(left).all().get();
            }
            if (System.nanoTime() > end) {
                throw new IllegalStateException("still moving after " + seconds + " s: " + moving.keySet());
            }
            Thread.sleep(100);
        }
    }

    private static Map<TopicPartition, Optional<NewPartitionReassignment>> replicasOf(Admin admin, int from, int to)
            throws Exception {
        var topics = admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get();
        var moves = new HashMap<TopicPartition, Optional<NewPartitionReassignment>>();
        for (var topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            for (var partition : topic.partitions()) {
                var replicas = new ArrayList<Integer>();
                partition.replicas().forEach(node -> replicas.add(node.id()));
                if (replicas.contains(from)) {
                    replicas.replaceAll(id -> id == from ? to : id);
                    var at = new TopicPartition(topic.name(), partition.partition());
                    moves.put(at, Optional.of(new NewPartitionReassignment(replicas.stream().distinct().toList())));
                }
            }
        }
        return moves;
    }
}
