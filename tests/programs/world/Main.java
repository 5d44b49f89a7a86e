// What Java programs usually need of their surroundings.
import java.net.InetAddress;
import java.nio.file.Files;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Main {
    public static void main(String[] args) throws Exception {
        var executor = Executors.newFixedThreadPool(Math.max(2, Runtime.getRuntime().availableProcessors()));
        var parts = new ArrayList<Future<Integer>>();
        for (int i = 0; i < 10; i++) {
            int number = i;
            parts.add(executor.submit(() -> number));
        }
        int sum = 0;
        for (var part : parts) sum += part.get();
        executor.shutdown();
        System.out.println("threads " + sum);
        System.out.println("user " + System.getProperty("user.name") + " " + System.getProperty("user.home"));
        System.out.println("address " + InetAddress.getLocalHost().getHostAddress());
        System.out.println("temporary " + Files.createTempFile("a", "b").getParent());
        System.out.println("tls " + (javax.net.ssl.SSLContext.getDefault() != null));
        System.out.println("zone " + ZoneId.of("Asia/Tokyo").getRules().getOffset(LocalDateTime.MIN.withYear(2000)));
        System.out.println("child " + new ProcessBuilder("sh", "-c", "exit 5").start().waitFor());
    }
}
