import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.CRC32;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/** What the programs of Java's libraries share: test data, TLS, the cases of HTTP and WebSockets, the form of results. */
final class Shared {
    static final int MIB = 1 << 20;

    private Shared() {}

    /** A case, for a URL. */
    interface Case {
        void run(String url) throws Exception;
    }

    /** Returned by a library that cannot run a case. */
    static final Case UNSUPPORTED = url -> System.out.println("unsupported");

    /** Runs `PROGRAM KIND URL CASE...`. Each result follows a line with the case; `{}` in the URL becomes the case. */
    static void run(String[] arguments, Map<String, Map<String, Case>> kinds) {
        Map<String, Case> cases = kinds.get(arguments[0]);
        for (String name : Arrays.asList(arguments).subList(2, arguments.length)) {
            System.out.println("== " + name);
            try {
                cases.getOrDefault(name, UNSUPPORTED).run(arguments[1].replace("{}", name));
            } catch (Exception error) {
                System.out.println("error " + describe(error));
            }
        }
        // Some libraries have threads that stay.
        System.exit(0);
    }

    static String describe(Throwable error) {
        String text = error.toString();
        return error.getCause() == null ? text : text + ", " + describe(error.getCause());
    }

    /** Bytes whose order is not that of a counter. */
    static byte[] pattern(int size) {
        byte[] data = new byte[size];
        for (int i = 0; i < size; i++) {
            data[i] = (byte) (i * 31 + (i >> 8));
        }
        return data;
    }

    static String text() {
        return "0123456789abcdef".repeat(MIB / 16);
    }

    static String digest(byte[] data) {
        CRC32 checksum = new CRC32();
        checksum.update(data);
        return String.format("%d bytes %08x", data.length, checksum.getValue());
    }

    /** A short body as text, a long one as a digest. */
    static String content(byte[] body) {
        return body.length < 100 ? new String(body, StandardCharsets.UTF_8).stripTrailing() : digest(body);
    }

    static String same(byte[] sent, byte[] received) {
        return Arrays.equals(sent, received) ? "same" : "different";
    }

    private static Certificate certificate(String variable) throws GeneralSecurityException, IOException {
        try (InputStream file = new FileInputStream(System.getenv(variable))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }

    static X509TrustManager trust() throws GeneralSecurityException, IOException {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry("ca", certificate("CA"));
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        return (X509TrustManager) factory.getTrustManagers()[0];
    }

    static SSLContext clientTls() throws GeneralSecurityException, IOException {
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new X509TrustManager[] {trust()}, null);
        return context;
    }

    static SSLContext serverTls() throws GeneralSecurityException, IOException {
        String pem = Files.readString(Path.of(System.getenv("KEY")));
        byte[] encoded = Base64.getMimeDecoder().decode(pem.replaceAll("-----.*-----", ""));
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        var key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(encoded));
        store.setKeyEntry("server", key, new char[0], new Certificate[] {certificate("CERT")});
        KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        factory.init(store, new char[0]);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(factory.getKeyManagers(), null, null);
        return context;
    }

    /** A request of a case. The body is null if there is none. */
    record Request(String method, String path, byte[] body, boolean chunked, boolean expects) {
        static Request get(String method, String path) {
            return new Request(method, path, null, false, false);
        }

        static Request post(String path, byte[] body) {
            return new Request("POST", path, body, false, false);
        }
    }

    /** A response, whose fields are names and values in turn. */
    record Response(String status, List<String[]> fields, byte[] body, List<String[]> trailers) {
        void show() {
            System.out.println(status);
            fields.stream()
                    .filter(field -> !List.of("date", "connection", "keep-alive").contains(field[0].toLowerCase()))
                    .map(field -> field[0] + ": " + field[1])
                    .sorted()
                    .forEach(System.out::println);
            System.out.println("body " + content(body));
            trailers.forEach(field -> System.out.println("trailer " + field[0] + ": " + field[1]));
        }
    }

    /** A client of a library. */
    interface HttpClient {
        Response call(String url, Request request) throws Exception;

        default void close() {}
    }

    /** Opens a client. */
    interface Open {
        HttpClient open() throws Exception;
    }

    private static final byte[] SMALL = "a small body".getBytes(StandardCharsets.UTF_8);

    private static List<Request> requests(String name) {
        return switch (name) {
            case "get" -> List.of(Request.get("GET", "/get"));
            case "head" -> List.of(Request.get("HEAD", "/get"));
            case "post_length" -> List.of(Request.post("/echo", SMALL));
            case "post_chunked" -> List.of(new Request("POST", "/echo", SMALL, true, false));
            case "keep_alive" -> List.of(
                    Request.get("GET", "/get"),
                    Request.post("/echo", SMALL),
                    Request.get("HEAD", "/get"),
                    Request.get("GET", "/chunked"));
            case "expect" -> List.of(new Request("POST", "/echo", pattern(65536), false, true));
            case "upload" -> List.of(Request.post("/echo", pattern(MIB)));
            case "upload_chunked" -> List.of(new Request("POST", "/echo", pattern(MIB), true, false));
            case "download" -> List.of(Request.get("GET", "/big"), Request.get("GET", "/chunked"));
            case "early_small" -> List.of(Request.post("/early", pattern(65536)));
            case "early_large" -> List.of(Request.post("/early", pattern(8 * MIB)));
            case "limited_small" -> List.of(Request.post("/limited", pattern(65536)));
            case "limited_large" -> List.of(Request.post("/limited", pattern(8 * MIB)));
            default -> List.of(Request.get("GET", "/trailers"));
        };
    }

    static Map<String, Case> httpCases(Open open, boolean trailers) {
        Map<String, Case> cases = new TreeMap<>();
        List<String> names = new ArrayList<>(List.of(
                "get", "head", "post_length", "post_chunked", "keep_alive", "expect", "upload", "upload_chunked", "download",
                "early_small", "early_large", "limited_small", "limited_large"));
        if (trailers) {
            names.add("trailers");
        }
        for (String name : names) {
            cases.put(name, url -> {
                HttpClient client = open.open();
                for (Request request : requests(name)) {
                    client.call(url + request.path(), request).show();
                }
                client.close();
            });
        }
        return cases;
    }

    /** An open WebSocket. */
    interface Socket {
        void send(String text) throws Exception;

        void send(byte[] data) throws Exception;

        /** The next event: a message, or the end, as the library describes it. */
        Object next() throws Exception;

        void close(int code, String reason) throws Exception;

        /** Sends a text in several frames. Returns false if the library cannot. */
        default boolean sendFragments(String... parts) throws Exception {
            return false;
        }

        /** Sends a ping and returns the data of the pong, or null if the library has none. */
        default String ping(String data) throws Exception {
            return null;
        }

        default String protocol() {
            return "";
        }
    }

    /** Opens a WebSocket. */
    interface OpenSocket {
        Socket open(String url, String... protocols) throws Exception;
    }

    private static void exchange(Socket socket, Object message) throws Exception {
        byte[] sent;
        if (message instanceof String text) {
            socket.send(text);
            sent = text.getBytes(StandardCharsets.UTF_8);
        } else {
            sent = (byte[]) message;
            socket.send(sent);
        }
        Object received = socket.next();
        if (received instanceof String text) {
            System.out.println("text " + sent.length + " " + same(sent, text.getBytes(StandardCharsets.UTF_8)));
        } else if (received instanceof byte[] data) {
            System.out.println("binary " + sent.length + " " + same(sent, data));
        } else {
            System.out.println(received);
        }
    }

    private static void end(Socket socket, int code, String reason) throws Exception {
        socket.close(code, reason);
        System.out.println(socket.next());
    }

    private static Case ends(OpenSocket open, String path) {
        return url -> {
            Socket socket = open.open(url + path);
            socket.send("end");
            System.out.println(socket.next());
        };
    }

    static Map<String, Case> webSocketCases(OpenSocket open) {
        byte[] bytes = new byte[256];
        for (int i = 0; i < 256; i++) {
            bytes[i] = (byte) i;
        }
        Map<String, Case> cases = new TreeMap<>();
        cases.put("echo", url -> {
            Socket socket = open.open(url + "/echo");
            for (Object message : new Object[] {"", "héllo wörld ☃", bytes, text(), pattern(MIB)}) {
                exchange(socket, message);
            }
            end(socket, 1000, "");
        });
        cases.put("fragments", url -> {
            Socket socket = open.open(url + "/fragments");
            if (!socket.sendFragments("one, ", "two, ", "three")) {
                socket.send("one, two, three");
            }
            System.out.println(socket.next());
            end(socket, 1000, "");
        });
        cases.put("subprotocol", url -> {
            Socket socket = open.open(url + "/echo", "chat.v1", "chat.v2");
            System.out.println("subprotocol " + socket.protocol());
            exchange(socket, "hello");
            end(socket, 1000, "");
        });
        cases.put("ping", url -> {
            Socket socket = open.open(url + "/ping");
            System.out.println("pong " + socket.ping("from the client"));
            socket.send("go");
            System.out.println(socket.next());
            end(socket, 1000, "");
        });
        cases.put("client_close", url -> {
            Socket socket = open.open(url + "/echo");
            exchange(socket, "hello");
            end(socket, 3001, "bye from the client");
        });
        cases.put("server_close", ends(open, "/close"));
        cases.put("lost_fin", ends(open, "/fin"));
        cases.put("lost_reset", ends(open, "/reset"));
        cases.put("client_lost", url -> {
            Socket socket = open.open(url + "/echo");
            exchange(socket, "hello");
            System.out.flush();
            Runtime.getRuntime().halt(0);
        });
        cases.put("refused", url -> open.open(url + "/refuse"));
        return cases;
    }
}
