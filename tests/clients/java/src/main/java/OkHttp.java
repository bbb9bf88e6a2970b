import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import kotlin.Pair;
import okhttp3.Headers;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Protocol;
import okhttp3.Request;
import okhttp3.RequestBody;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import okio.BufferedSink;
import okio.ByteString;

/** OkHttp: HTTP/1.1, HTTP/2 with and without TLS, and WebSockets. */
final class OkHttp {
    private static OkHttpClient client(Protocol... protocols) throws Exception {
        return new OkHttpClient.Builder()
                .sslSocketFactory(Shared.clientTls().getSocketFactory(), Shared.trust())
                .protocols(List.of(protocols))
                .retryOnConnectionFailure(false)
                .callTimeout(10, TimeUnit.SECONDS)
                .build();
    }

    private static RequestBody streamed(byte[] body) {
        return new RequestBody() {
            @Override
            public MediaType contentType() {
                return null;
            }

            @Override
            public void writeTo(BufferedSink sink) throws java.io.IOException {
                sink.write(body);
            }
        };
    }

    private static List<String[]> fields(Headers headers) {
        List<String[]> fields = new ArrayList<>();
        for (Pair<? extends String, ? extends String> field : headers) {
            fields.add(new String[] {field.getFirst(), field.getSecond()});
        }
        return fields;
    }

    private static Shared.Open http(Protocol... protocols) {
        return () -> {
            OkHttpClient client = client(protocols);
            return new Shared.HttpClient() {
                @Override
                public Shared.Response call(String url, Shared.Request request) throws Exception {
                    RequestBody body = request.body() == null ? null : RequestBody.create(request.body(), null);
                    if (request.chunked()) {
                        body = streamed(request.body());
                    }
                    Request.Builder builder = new Request.Builder().url(url).method(request.method(), body);
                    // The body is read as it is sent.
                    builder.header("Accept-Encoding", "identity");
                    if (request.expects()) {
                        builder.header("Expect", "100-continue");
                    }
                    try (Response response = client.newCall(builder.build()).execute()) {
                        byte[] received = response.body().bytes();
                        List<String[]> trailers = Collections.emptyList();
                        if (request.path().equals("/trailers")) {
                            trailers = fields(response.trailers());
                        }
                        String status = response.protocol() + " " + response.code() + " " + response.message();
                        return new Shared.Response(status, fields(response.headers()), received, trailers);
                    }
                }

                @Override
                public void close() {
                    client.connectionPool().evictAll();
                }
            };
        };
    }

    private static Shared.Socket open(String url, String... protocols) throws Exception {
        BlockingQueue<Object> events = new LinkedBlockingQueue<>();
        BlockingQueue<Object> opened = new LinkedBlockingQueue<>();
        Request.Builder request = new Request.Builder().url(url);
        if (protocols.length > 0) {
            request.header("Sec-WebSocket-Protocol", String.join(", ", protocols));
        }
        WebSocket socket = client(Protocol.HTTP_1_1).newBuilder().build().newWebSocket(request.build(), new WebSocketListener() {
            @Override
            public void onOpen(WebSocket socket, Response response) {
                opened.add(response.header("Sec-WebSocket-Protocol", ""));
            }

            @Override
            public void onMessage(WebSocket socket, String text) {
                events.add(text);
            }

            @Override
            public void onMessage(WebSocket socket, ByteString bytes) {
                events.add(bytes.toByteArray());
            }

            @Override
            public void onClosing(WebSocket socket, int code, String reason) {
                // The library leaves the response to its user.
                socket.close(code < 1001 || code > 2999 ? code : 1000, reason);
            }

            @Override
            public void onClosed(WebSocket socket, int code, String reason) {
                events.add("closed " + code + " " + reason);
            }

            @Override
            public void onFailure(WebSocket socket, Throwable error, Response response) {
                String text = "failed " + Shared.describe(error);
                if (response != null) {
                    String body;
                    try {
                        body = response.body().string();
                    } catch (java.io.IOException | IllegalStateException unreadable) {
                        body = unreadable.toString();
                    }
                    text += " " + response.code() + " " + response.header("WWW-Authenticate") + " " + body;
                }
                events.add(text);
                opened.add(new Exception(text));
            }
        });
        Object first = opened.poll(10, TimeUnit.SECONDS);
        if (first instanceof Exception failure) {
            throw failure;
        }
        return new Shared.Socket() {
            @Override
            public void send(String text) {
                socket.send(text);
            }

            @Override
            public void send(byte[] data) {
                socket.send(ByteString.of(data));
            }

            @Override
            public Object next() throws InterruptedException {
                return events.poll(10, TimeUnit.SECONDS);
            }

            @Override
            public void close(int code, String reason) {
                socket.close(code, reason);
            }

            @Override
            public String protocol() {
                return String.valueOf(first);
            }
        };
    }

    public static void main(String[] arguments) {
        Shared.run(arguments, Map.of(
                "http1", Shared.httpCases(http(Protocol.HTTP_1_1), true),
                "http2", Shared.httpCases(http(Protocol.HTTP_2, Protocol.HTTP_1_1), true),
                "h2c", Shared.httpCases(http(Protocol.H2_PRIOR_KNOWLEDGE), true),
                "websocket", Shared.webSocketCases(OkHttp::open)));
    }
}
