// WebSocket++.
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>
#include <websocketpp/client.hpp>
#include <websocketpp/config/asio_client.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <zlib.h>
#define run run_cases
#include "../c/shared.h"
#undef run

struct Plain : websocketpp::config::asio_client {
    static const size_t max_message_size = 64 * MIB;
};
struct Secure : websocketpp::config::asio_tls_client {
    static const size_t max_message_size = 64 * MIB;
};
namespace opcode = websocketpp::frame::opcode;
using websocketpp::connection_hdl;

static const std::map<std::string, std::string> PATHS = {
    {"echo", "/echo"}, {"fragments", "/fragments"}, {"subprotocol", "/echo"}, {"ping", "/ping"}, {"client_close", "/echo"},
    {"server_close", "/close"}, {"lost_fin", "/fin"}, {"lost_reset", "/reset"}, {"client_lost", "/echo"}, {"refused", "/refuse"},
};

template <class Client> static void prepare(Client &) {}

static void prepare(websocketpp::client<Secure> &client) {
    client.set_tls_init_handler([](connection_hdl) {
        namespace ssl = websocketpp::lib::asio::ssl;
        auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
        context->load_verify_file(getenv("CA"));
        context->set_verify_mode(ssl::verify_peer);
        return context;
    });
}

// The messages of a case: type and data.
static std::vector<std::pair<opcode::value, std::string>> messages(const std::string &name) {
    if (name != "echo")
        return {{opcode::text, name == "ping" ? "go" : "hello"}};
    std::string bytes, text;
    for (int i = 0; i < 256; i++)
        bytes += char(i);
    for (int i = 0; i < MIB / 16; i++)
        text += "0123456789abcdef";
    char *large = pattern(MIB);
    std::string data(large, MIB);
    free(large);
    return {{opcode::text, ""}, {opcode::text, "h\xc3\xa9llo w\xc3\xb6rld \xe2\x98\x83"}, {opcode::binary, bytes},
            {opcode::text, text}, {opcode::binary, data}};
}

template <class Config> static void perform(const std::string &name, const std::string &url) {
    using Client = websocketpp::client<Config>;
    Client client;
    client.clear_access_channels(websocketpp::log::alevel::all);
    client.clear_error_channels(websocketpp::log::elevel::all);
    client.init_asio();
    prepare(client);
    auto sent = messages(name);
    size_t step = 0;
    auto next = [&](connection_hdl handle) { client.send(handle, sent[step].second, sent[step].first); };
    client.set_open_handler([&](connection_hdl handle) {
        auto connection = client.get_con_from_hdl(handle);
        if (name == "subprotocol")
            std::cout << "subprotocol " << connection->get_subprotocol() << "\n";
        if (name == "ping")
            client.ping(handle, "from the client");
        else
            next(handle);
    });
    client.set_pong_handler([&](connection_hdl handle, std::string data) {
        std::cout << "pong " << data << "\n";
        next(handle);
    });
    client.set_message_handler([&](connection_hdl handle, typename Client::message_ptr message) {
        if (name == "ping") {
            std::cout << message->get_payload() << "\n";
        } else {
            bool same = message->get_payload() == sent[step].second;
            std::cout << (message->get_opcode() == opcode::text ? "text " : "binary ") << sent[step].second.size()
                      << (same ? " same\n" : " different\n");
        }
        if (name == "client_lost") {
            std::cout.flush();
            _exit(0);
        }
        if (++step < sent.size())
            return next(handle);
        if (name == "client_close")
            client.close(handle, 3001, "bye from the client");
        else
            client.close(handle, 1000, "");
    });
    client.set_close_handler([&](connection_hdl handle) {
        auto connection = client.get_con_from_hdl(handle);
        std::cout << "closed " << connection->get_remote_close_code() << " " << connection->get_remote_close_reason() << ", "
                  << connection->get_ec().message() << "\n";
    });
    client.set_fail_handler([&](connection_hdl handle) {
        auto connection = client.get_con_from_hdl(handle);
        std::cout << "failed " << connection->get_ec().message() << "; " << connection->get_response_code() << " "
                  << connection->get_response_header("WWW-Authenticate") << "\n";
    });
    websocketpp::lib::error_code error;
    auto connection = client.get_connection(url + PATHS.at(name), error);
    if (error) {
        std::cout << "error " << error.message() << "\n";
        return;
    }
    if (name == "subprotocol") {
        connection->add_subprotocol("chat.v1");
        connection->add_subprotocol("chat.v2");
    }
    client.connect(connection);
    client.run();
}

static int call(const char *, const char *name, const char *url) {
    if (!PATHS.count(name))
        return 0;
    try {
        if (std::string(url).rfind("wss", 0) == 0)
            perform<Secure>(name, url);
        else
            perform<Plain>(name, url);
    } catch (const std::exception &error) {
        std::cout << "error " << error.what() << "\n";
    }
    std::cout.flush();
    return 1;
}

int main(int count, char **arguments) {
    run_cases(count, arguments, call);
    return 0;
}
