/* libwebsockets. */
#include "shared.h"
#include <libwebsockets.h>
#include <unistd.h>

/* What a case does, and how far it is. */
struct test {
    const char *name;
    int step, steps, done;
    /* The message under way: bytes sent, bytes received. */
    char *sent;
    size_t sent_size, offset;
    enum lws_write_protocol type;
    char *received;
    size_t received_size;
    unsigned code;
    char reason[124];
    int reason_size;
};

static struct test test;
static struct lws *wsi;

static int is(const char *name) { return !strcmp(test.name, name); }

static const char *const FRAGMENTS[] = {"one, ", "two, ", "three"};

static void prepare(void) {
    free(test.sent);
    test.type = LWS_WRITE_TEXT;
    test.sent = NULL;
    test.offset = 0;
    test.received_size = 0;
    if (is("echo")) {
        static const char *texts[] = {"", "h\xc3\xa9llo w\xc3\xb6rld \xe2\x98\x83"};
        if (test.step < 2)
            test.sent = strdup(texts[test.step]);
        if (test.step == 3) {
            test.sent = malloc(MIB + 1);
            for (int i = 0; i < MIB; i++)
                test.sent[i] = "0123456789abcdef"[i % 16];
            test.sent[MIB] = 0;
        }
        if (test.step == 2 || test.step == 4) {
            test.type = LWS_WRITE_BINARY;
            test.sent_size = test.step == 2 ? 256 : MIB;
            test.sent = pattern(test.sent_size);
            return;
        }
    } else {
        test.sent = strdup(is("ping") ? "go" : "hello");
    }
    test.sent_size = strlen(test.sent);
}

/* Sends a part of the message. */
static int send_part(void) {
    if (is("fragments")) {
        unsigned char buffer[LWS_PRE + 16];
        const char *part = FRAGMENTS[test.offset];
        int flags = lws_write_ws_flags(LWS_WRITE_TEXT, test.offset == 0, test.offset == 2);
        memcpy(buffer + LWS_PRE, part, strlen(part));
        if (lws_write(wsi, buffer + LWS_PRE, strlen(part), flags) < 0)
            return -1;
        if (++test.offset < 3)
            lws_callback_on_writable(wsi);
        return 0;
    }
    size_t part = test.sent_size - test.offset < 65536 ? test.sent_size - test.offset : 65536;
    unsigned char *buffer = malloc(LWS_PRE + part);
    int flags = lws_write_ws_flags(test.type, test.offset == 0, test.offset + part == test.sent_size);
    memcpy(buffer + LWS_PRE, test.sent + test.offset, part);
    int written = lws_write(wsi, buffer + LWS_PRE, part, flags);
    free(buffer);
    test.offset += part;
    if (test.offset < test.sent_size)
        lws_callback_on_writable(wsi);
    return written < 0 ? -1 : 0;
}

/* Closes with the code of the case. */
static int finish(void) {
    if (is("client_close"))
        lws_close_reason(wsi, 3001, (unsigned char *)"bye from the client", 19);
    else
        lws_close_reason(wsi, 1000, NULL, 0);
    return -1;
}

static int message(void) {
    if (is("fragments") || is("ping")) {
        show_content("", test.received, test.received_size);
        return finish();
    }
    int same = test.received_size == test.sent_size && !memcmp(test.received, test.sent, test.sent_size);
    printf("%s %zu %s\n", lws_frame_is_binary(wsi) ? "binary" : "text", test.sent_size, same ? "same" : "different");
    if (is("client_lost")) {
        fflush(stdout);
        _exit(0);
    }
    if (++test.step == test.steps)
        return finish();
    prepare();
    lws_callback_on_writable(wsi);
    return 0;
}

static int on_event(struct lws *socket, enum lws_callback_reasons event, void *user, void *data, size_t size) {
    (void)user;
    switch (event) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        if (is("subprotocol"))
            printf("subprotocol %s\n", lws_get_protocol(socket)->name);
        prepare();
        lws_callback_on_writable(socket);
        break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        if (is("fragments") && test.offset == 3)
            break;
        if (test.sent && (test.offset < test.sent_size || (test.sent_size == 0 && test.offset == 0)))
            return send_part();
        break;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        test.received = realloc(test.received, test.received_size + size + 1);
        memcpy(test.received + test.received_size, data, size);
        test.received_size += size;
        if (lws_is_final_fragment(socket) && lws_remaining_packet_payload(socket) == 0)
            return message();
        break;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        test.code = size >= 2 ? ((unsigned char *)data)[0] << 8 | ((unsigned char *)data)[1] : 1005;
        test.reason_size = size > 2 ? (int)size - 2 : 0;
        memcpy(test.reason, (char *)data + 2, test.reason_size);
        break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        printf("error %s\n", data ? (char *)data : "");
        test.done = 1;
        break;
    case LWS_CALLBACK_CLIENT_CLOSED:
        printf("closed %u %.*s\n", test.code, test.reason_size, test.reason);
        test.done = 1;
        break;
    default:
        break;
    }
    return 0;
}

/* The protocols that are offered must be in the list of the context. */
static const struct lws_protocols PROTOCOLS[] = {
    {"default", on_event, 0, 65536, 0, NULL, 0},
    {"chat.v1", on_event, 0, 65536, 0, NULL, 0},
    {"chat.v2", on_event, 0, 65536, 0, NULL, 0},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

static const struct {
    const char *name, *path;
} PATHS[] = {
    {"echo", "/echo"}, {"fragments", "/fragments"}, {"subprotocol", "/echo"}, {"ping", "/ping"}, {"client_close", "/echo"},
    {"server_close", "/close"}, {"lost_fin", "/fin"}, {"lost_reset", "/reset"}, {"client_lost", "/echo"}, {"refused", "/refuse"},
};

static int call(const char *kind, const char *name, const char *url) {
    (void)kind;
    const char *path = NULL;
    for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++)
        if (!strcmp(PATHS[i].name, name))
            path = PATHS[i].path;
    if (!path)
        return 0;
    memset(&test, 0, sizeof test);
    test.name = name;
    test.steps = is("echo") ? 5 : 1;
    char copy[600], full[600];
    snprintf(copy, sizeof copy, "%s%s", url, path);
    const char *scheme, *address, *rest;
    int port;
    if (lws_parse_uri(copy, &scheme, &address, &port, &rest))
        return 0;
    snprintf(full, sizeof full, "/%s", rest);
    struct lws_context_creation_info info = {0};
    info.port = CONTEXT_PORT_NO_LISTEN;
    info.protocols = PROTOCOLS;
    info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    info.client_ssl_ca_filepath = getenv("CA");
    struct lws_context *context = lws_create_context(&info);
    char host[64];
    snprintf(host, sizeof host, "%s:%d", address, port);
    struct lws_client_connect_info connect = {0};
    connect.context = context;
    connect.address = address;
    connect.port = port;
    connect.path = full;
    connect.host = host;
    connect.origin = address;
    connect.protocol = is("subprotocol") ? "chat.v1, chat.v2" : NULL;
    connect.local_protocol_name = "default";
    connect.ssl_connection = strcmp(scheme, "wss") ? 0 : LCCSCF_USE_SSL;
    connect.pwsi = &wsi;
    connect.alpn = "http/1.1";
    if (lws_client_connect_via_info(&connect))
        while (!test.done && lws_service(context, 0) >= 0) {
        }
    lws_context_destroy(context);
    free(test.sent);
    free(test.received);
    return 1;
}

int main(int count, char **arguments) {
    lws_set_log_level(0, NULL);
    run(count, arguments, call);
    return 0;
}
