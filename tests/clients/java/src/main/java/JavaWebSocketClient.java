import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.java_websocket.WebSocket;
import org.java_websocket.client.WebSocketClient;
import org.java_websocket.drafts.Draft_6455;
import org.java_websocket.enums.Opcode;
import org.java_websocket.framing.Framedata;
import org.java_websocket.framing.PingFrame;
import org.java_websocket.handshake.ServerHandshake;
import org.java_websocket.protocols.IProtocol;
import org.java_websocket.protocols.Protocol;

/** Java-WebSocket. */
final class JavaWebSocketClient {
    private static final class Client extends WebSocketClient {
        private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();

        Client(URI url, List<IProtocol> protocols) {
            super(url, new Draft_6455(List.of(), protocols));
        }

        @Override
        public void onOpen(ServerHandshake handshake) {}

        @Override
        public void onMessage(String text) {
            events.add(text);
        }

        @Override
        public void onMessage(ByteBuffer data) {
            events.add(data.array());
        }

        @Override
        public void onWebsocketPong(WebSocket socket, Framedata frame) {
            events.add(StandardCharsets.UTF_8.decode(frame.getPayloadData()).toString());
        }

        @Override
        public void onClose(int code, String reason, boolean remote) {
            events.add("closed " + code + " " + reason + (remote ? " remote" : " local"));
        }

        @Override
        public void onError(Exception error) {
            events.add("error " + Shared.describe(error));
        }
    }

    private static Shared.Socket open(String url, String... protocols) throws Exception {
        List<IProtocol> names = new ArrayList<>();
        for (String name : protocols) {
            names.add(new Protocol(name));
        }
        // Without a name a server may choose none.
        names.add(new Protocol(""));
        Client client = new Client(URI.create(url), names);
        if (url.startsWith("wss")) {
            client.setSocketFactory(Shared.clientTls().getSocketFactory());
        }
        if (!client.connectBlocking(10, TimeUnit.SECONDS)) {
            throw new Exception("not opened: " + client.events.poll(10, TimeUnit.SECONDS));
        }
        return new Shared.Socket() {
            @Override
            public void send(String text) {
                client.send(text);
            }

            @Override
            public void send(byte[] data) {
                client.send(data);
            }

            @Override
            public boolean sendFragments(String... parts) {
                for (int i = 0; i < parts.length; i++) {
                    ByteBuffer part = StandardCharsets.UTF_8.encode(parts[i]);
                    client.sendFragmentedFrame(Opcode.TEXT, part, i == parts.length - 1);
                }
                return true;
            }

            @Override
            public String ping(String data) throws InterruptedException {
                PingFrame ping = new PingFrame();
                ping.setPayload(StandardCharsets.UTF_8.encode(data));
                client.sendFrame(ping);
                return String.valueOf(next());
            }

            @Override
            public Object next() throws InterruptedException {
                return client.events.poll(10, TimeUnit.SECONDS);
            }

            @Override
            public void close(int code, String reason) {
                client.close(code, reason);
            }

            @Override
            public String protocol() {
                return client.getProtocol().getProvidedProtocol();
            }
        };
    }

    public static void main(String[] arguments) {
        Shared.run(arguments, Map.of("websocket", Shared.webSocketCases(JavaWebSocketClient::open)));
    }
}
