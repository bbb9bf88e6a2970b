import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.java_websocket.WebSocket;
import org.java_websocket.drafts.Draft;
import org.java_websocket.drafts.Draft_6455;
import org.java_websocket.exceptions.InvalidDataException;
import org.java_websocket.framing.CloseFrame;
import org.java_websocket.framing.Framedata;
import org.java_websocket.framing.PingFrame;
import org.java_websocket.handshake.ClientHandshake;
import org.java_websocket.handshake.ServerHandshakeBuilder;
import org.java_websocket.protocols.Protocol;
import org.java_websocket.server.DefaultSSLWebSocketServerFactory;
import org.java_websocket.server.WebSocketServer;

/** Java-WebSocket, its server. */
final class JavaWebSocketServer extends WebSocketServer {
    private final CountDownLatch started = new CountDownLatch(1);

    private JavaWebSocketServer() {
        super(
                new InetSocketAddress("127.0.0.1", 0),
                List.of(new Draft_6455(List.of(), List.of(new Protocol("chat.v2"), new Protocol("")))));
        setReuseAddr(true);
    }

    private static String[] path(WebSocket socket) {
        return socket.getResourceDescriptor().split("/");
    }

    @Override
    public ServerHandshakeBuilder onWebsocketHandshakeReceivedAsServer(WebSocket socket, Draft draft, ClientHandshake request)
            throws InvalidDataException {
        if (request.getResourceDescriptor().endsWith("/refuse")) {
            throw new InvalidDataException(CloseFrame.POLICY_VALIDATION, "refused");
        }
        return super.onWebsocketHandshakeReceivedAsServer(socket, draft, request);
    }

    @Override
    public void onOpen(WebSocket socket, ClientHandshake handshake) {
        System.out.println(path(socket)[1] + " open");
    }

    @Override
    public void onClose(WebSocket socket, int code, String reason, boolean remote) {
        if (socket.getResourceDescriptor() != null && !socket.getResourceDescriptor().endsWith("/refuse")) {
            System.out.println(path(socket)[1] + " end " + code + " " + reason + (remote ? " remote" : " local"));
        }
    }

    @Override
    public void onMessage(WebSocket socket, String text) {
        switch (path(socket)[2]) {
            case "close" -> socket.close(4001, "closed by the server");
            case "fin", "reset" -> socket.closeConnection(CloseFrame.ABNORMAL_CLOSE, "ended");
            case "ping" -> {
                PingFrame ping = new PingFrame();
                ping.setPayload(StandardCharsets.UTF_8.encode("from the server"));
                socket.sendFrame(ping);
            }
            default -> socket.send(text);
        }
    }

    @Override
    public void onMessage(WebSocket socket, ByteBuffer data) {
        socket.send(data);
    }

    @Override
    public void onWebsocketPong(WebSocket socket, Framedata frame) {
        if (path(socket)[2].equals("ping")) {
            socket.send("pong " + StandardCharsets.UTF_8.decode(frame.getPayloadData()));
        }
    }

    @Override
    public void onError(WebSocket socket, Exception error) {}

    @Override
    public void onStart() {
        started.countDown();
    }

    private int startAndWait() throws InterruptedException {
        start();
        started.await();
        return getPort();
    }

    public static void main(String[] arguments) throws Exception {
        JavaWebSocketServer plain = new JavaWebSocketServer();
        JavaWebSocketServer secure = new JavaWebSocketServer();
        secure.setWebSocketFactory(new DefaultSSLWebSocketServerFactory(Shared.serverTls()));
        System.out.println("listening plain=" + plain.startAndWait() + " tls=" + secure.startAndWait());
    }
}
