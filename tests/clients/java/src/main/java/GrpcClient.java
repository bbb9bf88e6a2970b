import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** grpc-java. Messages are bytes, so that no code is generated. */
final class GrpcClient {
    private static final MethodDescriptor.Marshaller<byte[]> BYTES = new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream stream) {
            try {
                return stream.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    };

    private static void show(String kind, Metadata metadata) {
        List<String> lines = new ArrayList<>();
        for (String name : metadata.keys()) {
            if (name.endsWith("-bin")) {
                byte[] value = metadata.get(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER));
                lines.add(name + " " + Arrays.toString(value));
            } else if (!name.equals("date")) {
                lines.add(name + " " + metadata.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER)));
            }
        }
        lines.sort(null);
        lines.forEach(line -> System.out.println(kind + " " + line));
    }

    private static void call(String url, MethodDescriptor.MethodType type, String method, CallOptions options, Metadata metadata, byte[]... messages)
            throws Exception {
        String[] parts = url.split("://");
        var credentials = parts[0].equals("https")
                ? TlsChannelCredentials.newBuilder().trustManager(new File(System.getenv("CA"))).build()
                : InsecureChannelCredentials.create();
        ManagedChannel channel = Grpc.newChannelBuilder(parts[1], credentials).maxInboundMessageSize(1 << 24).build();
        MethodDescriptor<byte[], byte[]> descriptor = MethodDescriptor.<byte[], byte[]>newBuilder()
                .setType(type)
                .setFullMethodName("test.Calls/" + method)
                .setRequestMarshaller(BYTES)
                .setResponseMarshaller(BYTES)
                .build();
        CountDownLatch ended = new CountDownLatch(1);
        ClientCall<byte[], byte[]> call = channel.newCall(descriptor, options);
        call.start(new ClientCall.Listener<>() {
            @Override
            public void onHeaders(Metadata headers) {
                show("initial", headers);
            }

            @Override
            public void onMessage(byte[] message) {
                System.out.println(Shared.content(message));
            }

            @Override
            public void onClose(Status status, Metadata trailers) {
                // The description of a deadline contains durations, and which side ends a call after it is chance.
                boolean late = status.getCode() == Status.Code.DEADLINE_EXCEEDED;
                System.out.println(status.getCode() + " " + (late ? "" : status.getDescription()));
                if (!late) {
                    show("trailing", trailers);
                }
                ended.countDown();
            }
        }, metadata);
        call.request(100);
        for (byte[] message : messages) {
            call.sendMessage(message);
        }
        call.halfClose();
        ended.await(20, TimeUnit.SECONDS);
        channel.shutdownNow();
    }

    private static Shared.Case unary(String method, byte[] message) {
        return url -> call(url, MethodDescriptor.MethodType.UNARY, method, CallOptions.DEFAULT, new Metadata(), message);
    }

    private static byte[][] bytes(String... messages) {
        return Arrays.stream(messages).map(message -> message.getBytes(StandardCharsets.UTF_8)).toArray(byte[][]::new);
    }

    private static Shared.Case stream(MethodDescriptor.MethodType type, String method, String... messages) {
        return url -> call(url, type, method, CallOptions.DEFAULT, new Metadata(), bytes(messages));
    }

    public static void main(String[] arguments) {
        Map<String, Shared.Case> cases = new TreeMap<>();
        cases.put("unary", unary("Echo", bytes("hello")[0]));
        cases.put("metadata", url -> {
            Metadata metadata = new Metadata();
            metadata.put(Metadata.Key.of("x-text", Metadata.ASCII_STRING_MARSHALLER), "value");
            metadata.put(Metadata.Key.of("x-bytes-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {0, -1});
            call(url, MethodDescriptor.MethodType.UNARY, "Metadata", CallOptions.DEFAULT, metadata, new byte[0]);
        });
        cases.put("large", unary("Echo", Shared.pattern(Shared.MIB)));
        cases.put("server_stream", stream(MethodDescriptor.MethodType.SERVER_STREAMING, "Count", "5"));
        cases.put("client_stream", stream(MethodDescriptor.MethodType.CLIENT_STREAMING, "Sum", "1", "22", "333"));
        cases.put("bidi", stream(
                MethodDescriptor.MethodType.BIDI_STREAMING, "Chat", "message 0", "message 1", "message 2", "message 3", "message 4"));
        cases.put("error", unary("Fail", new byte[0]));
        cases.put("unimplemented", unary("Missing", new byte[0]));
        cases.put("deadline", url -> {
            CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(300, TimeUnit.MILLISECONDS);
            call(url, MethodDescriptor.MethodType.UNARY, "Wait", options, new Metadata(), new byte[0]);
        });
        Shared.run(arguments, Map.of("grpc", cases));
    }
}
