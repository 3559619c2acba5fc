import java.util.ArrayList;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/**
 * Gives rights to a user. Arguments: address of a broker, the user, then rights `TYPE:PREFIX:OPERATION` with commas
 * between them, e.g. `TOPIC:shop.:WRITE,TRANSACTIONAL_ID:it.shop.:WRITE`.
 */
class Rights {
    public static void main(String[] arguments) throws Exception {
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        var rights = new ArrayList<AclBinding>();
        for (var right : arguments[2].split(",")) {
            var parts = right.split(":");
            var pattern = new ResourcePattern(ResourceType.valueOf(parts[0]), parts[1], PatternType.PREFIXED);
            var operation = AclOperation.valueOf(parts[2]);
            var who = "User:" + arguments[1];
            rights.add(new AclBinding(pattern, new AccessControlEntry(who, "*", operation, AclPermissionType.ALLOW)));
        }
        try (var admin = Admin.create(settings)) {
            admin.createAcls(rights).all().get();
        }
    }
}
