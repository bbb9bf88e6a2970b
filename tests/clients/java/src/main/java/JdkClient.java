import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** java.net.http: HTTP/1.1, HTTP/2, and WebSockets. */
final class JdkClient {
    private static HttpClient client(HttpClient.Version version) throws Exception {
        return HttpClient.newBuilder().version(version).sslContext(Shared.clientTls()).build();
    }

    private static Shared.Open http(HttpClient.Version version) {
        return () -> {
            HttpClient client = client(version);
            return (url, request) -> {
                BodyPublisher body = request.body() == null ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(request.body());
                if (request.chunked()) {
                    body = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(request.body()));
                }
                HttpRequest built = HttpRequest.newBuilder(URI.create(url))
                        .method(request.method(), body)
                        .expectContinue(request.expects())
                        .timeout(Duration.ofSeconds(10))
                        .build();
                HttpResponse<byte[]> response = client.send(built, BodyHandlers.ofByteArray());
                List<String[]> fields = new ArrayList<>();
                response.headers().map().forEach((name, values) -> values.forEach(value -> fields.add(new String[] {name, value})));
                fields.removeIf(field -> field[0].equals(":status"));
                return new Shared.Response(response.version() + " " + response.statusCode(), fields, response.body(), List.of());
            };
        };
    }

    /** Collects messages and the end. */
    private static final class Listener implements WebSocket.Listener {
        private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();
        private final StringBuilder text = new StringBuilder();
        private final ByteArrayOutputStream binary = new ByteArrayOutputStream();

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            text.append(data);
            if (last) {
                events.add(text.toString());
                text.setLength(0);
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
            byte[] part = new byte[data.remaining()];
            data.get(part);
            binary.writeBytes(part);
            if (last) {
                events.add(binary.toByteArray());
                binary.reset();
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onPong(WebSocket socket, ByteBuffer data) {
            events.add(StandardCharsets.UTF_8.decode(data).toString());
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            events.add("closed " + code + " " + reason);
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            events.add("error " + Shared.describe(error));
        }
    }

    private static Shared.Socket open(String url, String... protocols) throws Exception {
        Listener listener = new Listener();
        WebSocket.Builder builder = client(HttpClient.Version.HTTP_1_1).newWebSocketBuilder();
        if (protocols.length > 0) {
            builder.subprotocols(protocols[0], List.of(protocols).subList(1, protocols.length).toArray(String[]::new));
        }
        WebSocket socket;
        try {
            socket = builder.buildAsync(URI.create(url), listener).join();
        } catch (CompletionException error) {
            if (error.getCause() instanceof WebSocketHandshakeException refused) {
                HttpResponse<?> response = refused.getResponse();
                System.out.println(response.statusCode() + " " + response.headers().firstValue("www-authenticate") + " " + response.body());
            }
            throw error;
        }
        return new Shared.Socket() {
            @Override
            public void send(String text) {
                socket.sendText(text, true).join();
            }

            @Override
            public void send(byte[] data) {
                socket.sendBinary(ByteBuffer.wrap(data), true).join();
            }

            @Override
            public boolean sendFragments(String... parts) {
                for (int i = 0; i < parts.length; i++) {
                    socket.sendText(parts[i], i == parts.length - 1).join();
                }
                return true;
            }

            @Override
            public String ping(String data) throws InterruptedException {
                socket.sendPing(StandardCharsets.UTF_8.encode(data)).join();
                return (String) next();
            }

            @Override
            public Object next() throws InterruptedException {
                return listener.events.poll(10, TimeUnit.SECONDS);
            }

            @Override
            public void close(int code, String reason) {
                socket.sendClose(code, reason).join();
            }

            @Override
            public String protocol() {
                return socket.getSubprotocol();
            }
        };
    }

    public static void main(String[] arguments) {
        Shared.run(arguments, Map.of(
                "http1", Shared.httpCases(http(HttpClient.Version.HTTP_1_1), false),
                "http2", Shared.httpCases(http(HttpClient.Version.HTTP_2), false),
                "websocket", Shared.webSocketCases(JdkClient::open)));
    }
}
