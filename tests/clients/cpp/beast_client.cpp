// Boost.Beast: HTTP/1.1 and WebSockets.
#include "../c/shared.h"
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using asio::ip::tcp;
using Tls = asio::ssl::stream<tcp::socket>;

struct Url {
    bool secure;
    std::string host, port, path;
    explicit Url(const std::string &text) {
        auto start = text.find("://") + 3, colon = text.find(':', start), slash = text.find('/', start);
        secure = text.rfind("https:", 0) == 0 || text.rfind("wss:", 0) == 0;
        host = text.substr(start, colon - start);
        port = text.substr(colon + 1, slash == std::string::npos ? slash : slash - colon - 1);
        path = slash == std::string::npos ? "" : text.substr(slash);
    }
};

static asio::io_context io;

static asio::ssl::context &trust() {
    static asio::ssl::context context(asio::ssl::context::tls_client);
    context.load_verify_file(getenv("CA"));
    context.set_verify_mode(asio::ssl::verify_peer);
    return context;
}

static tcp::socket dial(const Url &url) {
    tcp::socket socket(io);
    asio::connect(socket, tcp::resolver(io).resolve(tcp::v4(), url.host, url.port));
    return socket;
}

static void secure(Tls &stream, const Url &url) {
    SSL_set_tlsext_host_name(stream.native_handle(), url.host.c_str());
    stream.set_verify_callback(asio::ssl::host_name_verification(url.host));
    stream.handshake(asio::ssl::stream_base::client);
}

static std::string pattern_of(size_t size) {
    char *data = pattern(size);
    std::string text(data, size);
    free(data);
    return text;
}

struct Request {
    http::verb method;
    std::string path, body;
    bool chunked = false, expects = false;
};

template <class Stream> static void send(Stream &stream, beast::flat_buffer &buffer, const Url &url, const Request &sent) {
    http::request<http::string_body> request(sent.method, sent.path, 11, sent.body);
    request.set(http::field::host, url.host + ":" + url.port);
    if (sent.chunked)
        request.chunked(true);
    else if (sent.method == http::verb::post)
        request.prepare_payload();
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    parser.skip(sent.method == http::verb::head);
    if (sent.expects) {
        request.set(http::field::expect, "100-continue");
        http::request_serializer<http::string_body> serializer(request);
        http::write_header(stream, serializer);
        http::response_parser<http::string_body> interim;
        http::read_header(stream, buffer, interim);
        std::cout << "interim " << interim.get().result_int() << "\n";
        http::write(stream, serializer);
    } else {
        beast::error_code error;
        http::write(stream, request, error);
        // A server that refuses a body early may close for writing; its response is still there.
        if (error && error != asio::error::broken_pipe && error != asio::error::connection_reset)
            throw beast::system_error(error);
    }
    http::read(stream, buffer, parser);
    auto &response = parser.get();
    std::cout << response.result_int() << " " << response.reason() << "\n";
    std::vector<std::string> lines;
    for (auto &field : response) {
        std::string name(field.name_string());
        if (field.name() != http::field::date && field.name() != http::field::connection && field.name() != http::field::keep_alive)
            lines.push_back(name + ": " + std::string(field.value()));
    }
    std::sort(lines.begin(), lines.end());
    for (auto &line : lines)
        std::cout << line << "\n";
    std::cout.flush();
    show_content("body ", response.body().data(), response.body().size());
    fflush(stdout);
}

static int http1(const std::string &name, const Url &url) {
    auto get = http::verb::get, head = http::verb::head, post = http::verb::post;
    std::map<std::string, std::vector<Request>> cases = {
        {"get", {{get, "/get"}}},
        {"head", {{head, "/get"}}},
        {"post_length", {{post, "/echo", "a small body"}}},
        {"post_chunked", {{post, "/echo", "a small body", true}}},
        {"keep_alive", {{get, "/get"}, {post, "/echo", "a small body"}, {head, "/get"}, {get, "/chunked"}}},
        {"expect", {{post, "/echo", pattern_of(65536), false, true}}},
        {"upload", {{post, "/echo", pattern_of(MIB)}}},
        {"upload_chunked", {{post, "/echo", pattern_of(MIB), true}}},
        {"download", {{get, "/big"}, {get, "/chunked"}}},
        {"early_small", {{post, "/early", pattern_of(65536)}}},
        {"early_large", {{post, "/early", pattern_of(8 * MIB)}}},
        {"limited_small", {{post, "/limited", pattern_of(65536)}}},
        {"limited_large", {{post, "/limited", pattern_of(8 * MIB)}}},
        // Trailers are fields.
        {"trailers", {{get, "/trailers"}}},
    };
    auto found = cases.find(name);
    if (found == cases.end())
        return 0;
    beast::flat_buffer buffer;
    if (url.secure) {
        Tls stream(dial(url), trust());
        secure(stream, url);
        for (auto &request : found->second)
            send(stream, buffer, url, request);
        beast::error_code error;
        stream.shutdown(error);
    } else {
        auto stream = dial(url);
        for (auto &request : found->second)
            send(stream, buffer, url, request);
    }
    return 1;
}

template <class Stream> static std::string read(websocket::stream<Stream> &socket) {
    beast::flat_buffer buffer;
    socket.read(buffer);
    return beast::buffers_to_string(buffer.data());
}

template <class Stream> static void exchange(websocket::stream<Stream> &socket, bool text, const std::string &data) {
    socket.text(text);
    socket.write(asio::buffer(data));
    bool same = read(socket) == data;
    std::cout << (socket.got_text() ? "text " : "binary ") << data.size() << (same ? " same\n" : " different\n");
}

// Closes; the library reads until the end of the stream.
template <class Stream> static void end(websocket::stream<Stream> &socket, unsigned short code, const char *reason) {
    socket.close(websocket::close_reason(websocket::close_code(code), reason));
    std::cout << "closed " << socket.reason().code << " " << socket.reason().reason << "\n";
}

template <class Stream> static void converse(websocket::stream<Stream> &socket, const std::string &name, const Url &url) {
    static const std::map<std::string, std::string> paths = {
        {"fragments", "/fragments"}, {"ping", "/ping"}, {"server_close", "/close"}, {"lost_fin", "/fin"},
        {"lost_reset", "/reset"}, {"refused", "/refuse"},
    };
    auto path = paths.find(name);
    std::string pong;
    socket.read_message_max(0);
    socket.auto_fragment(false);
    socket.control_callback([&](websocket::frame_type type, beast::string_view data) {
        if (type == websocket::frame_type::pong)
            pong = std::string(data);
    });
    if (name == "subprotocol")
        socket.set_option(websocket::stream_base::decorator(
            [](websocket::request_type &request) { request.set(http::field::sec_websocket_protocol, "chat.v1, chat.v2"); }));
    websocket::permessage_deflate deflate;
    deflate.client_enable = true;
    socket.set_option(deflate);
    websocket::response_type response;
    beast::error_code error;
    socket.handshake(response, url.host + ":" + url.port, url.path + (path == paths.end() ? "/echo" : path->second), error);
    if (error) {
        std::cout << "error " << error.message() << "; " << response.result_int() << " "
                  << response[http::field::www_authenticate] << " " << response.body() << "\n";
        return;
    }
    if (name == "echo") {
        std::string bytes, text;
        for (int i = 0; i < 256; i++)
            bytes += char(i);
        for (int i = 0; i < MIB / 16; i++)
            text += "0123456789abcdef";
        exchange(socket, true, "");
        exchange(socket, true, "h\xc3\xa9llo w\xc3\xb6rld \xe2\x98\x83");
        exchange(socket, false, bytes);
        exchange(socket, true, text);
        exchange(socket, false, pattern_of(MIB));
    } else if (name == "fragments") {
        socket.text(true);
        socket.write_some(false, asio::buffer("one, ", 5));
        socket.write_some(false, asio::buffer("two, ", 5));
        socket.write_some(true, asio::buffer("three", 5));
        std::cout << read(socket) << "\n";
    } else if (name == "ping") {
        socket.ping("from the client");
        socket.text(true);
        socket.write(asio::buffer("go", 2));
        std::cout << read(socket) << ", pong " << pong << "\n";
    } else if (name == "subprotocol") {
        std::cout << "subprotocol " << response[http::field::sec_websocket_protocol] << ", extensions "
                  << response[http::field::sec_websocket_extensions] << "\n";
    } else {
        exchange(socket, true, "hello");
        if (name == "client_lost") {
            std::cout.flush();
            _exit(0);
        }
    }
    if (name == "client_close")
        end(socket, 3001, "bye from the client");
    else
        end(socket, 1000, "");
}

// A server that ends: the read fails, and the reason tells why.
template <class Stream> static void ends(websocket::stream<Stream> &socket, const std::string &name, const Url &url) {
    static const std::map<std::string, std::string> paths = {{"server_close", "/close"}, {"lost_fin", "/fin"}, {"lost_reset", "/reset"}};
    socket.handshake(url.host + ":" + url.port, url.path + paths.at(name));
    socket.write(asio::buffer("end", 3));
    beast::flat_buffer buffer;
    beast::error_code error;
    socket.read(buffer, error);
    std::cout << error.message() << "; closed " << socket.reason().code << " " << socket.reason().reason << "\n";
}

template <class Stream> static void websockets(websocket::stream<Stream> &socket, const std::string &name, const Url &url) {
    if (name == "server_close" || name == "lost_fin" || name == "lost_reset")
        ends(socket, name, url);
    else
        converse(socket, name, url);
}

static int call(const char *kind, const char *name, const char *text) {
    Url url(text);
    int known = 1;
    try {
        if (std::string(kind) == "http1") {
            known = http1(name, url);
        } else if (url.secure) {
            websocket::stream<Tls> socket(Tls(dial(url), trust()));
            secure(socket.next_layer(), url);
            websockets(socket, name, url);
        } else {
            websocket::stream<tcp::socket> socket(dial(url));
            websockets(socket, name, url);
        }
    } catch (const std::exception &error) {
        std::cout << "error " << error.what() << "\n";
    }
    std::cout.flush();
    return known;
}

int main(int count, char **arguments) {
    run(count, arguments, call);
    return 0;
}
