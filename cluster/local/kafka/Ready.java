import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Waits until a broker can be used: the wanted number of brokers is in the metadata, and a transactional producer gets
 * its id, which is the last thing to work after a start. Arguments: address, brokers, seconds.
 */
class Ready {
    public static void main(String[] arguments) throws Exception {
        var brokers = Integer.parseInt(arguments[1]);
        var end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Long.parseLong(arguments[2]));
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("default.api.timeout.ms", "5000");
        settings.put("request.timeout.ms", "4000");
        settings.put("reconnect.backoff.ms", "50");
        settings.put("reconnect.backoff.max.ms", "200");
        settings.put("transactional.id", "distributary-local-ready-" + arguments[0]);
        settings.put("max.block.ms", "5000");
        while (true) {
            try {
                look(settings, brokers);
                return;
            } catch (Exception notYet) {
                if (System.nanoTime() > end) {
                    System.err.println(notYet);
                    System.exit(1);
                }
                Thread.sleep(100);
            }
        }
    }

    private static void look(Properties settings, int brokers) throws Exception {
        try (var admin = Admin.create(settings)) {
            var found = admin.describeCluster().nodes().get(5, TimeUnit.SECONDS).size();
            if (found < brokers) {
                throw new IllegalStateException(found + " of " + brokers + " brokers");
            }
        }
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.commitTransaction();
        }
    }
}
