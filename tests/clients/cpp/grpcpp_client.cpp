// gRPC C++. Messages are bytes, so that no code is generated.
#include "../c/shared.h"
#include <algorithm>
#include <chrono>
#include <fstream>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

static grpc::ByteBuffer message(const std::string &data) {
    grpc::Slice slice(data);
    return grpc::ByteBuffer(&slice, 1);
}

static std::string content(const grpc::ByteBuffer &buffer) {
    std::vector<grpc::Slice> slices;
    buffer.Dump(&slices);
    std::string data;
    for (auto &slice : slices)
        data.append(reinterpret_cast<const char *>(slice.begin()), slice.size());
    return data;
}

static void show(const char *kind, const std::multimap<grpc::string_ref, grpc::string_ref> &metadata) {
    for (auto &[name, value] : metadata) {
        if (name == "date")
            continue;
        std::cout << kind << " " << std::string(name.data(), name.size()) << " ";
        for (char byte : std::string(value.data(), value.size()))
            byte >= ' ' && byte <= '~' ? std::cout << byte : std::cout << "\\" << int((unsigned char)byte);
        std::cout << "\n";
    }
}

// Runs one call as a stream in both directions: with messages to send, until its status.
static void stream(const std::string &url, const std::string &method, const std::vector<std::string> &messages,
                   const std::map<std::string, std::string> &metadata = {}, int deadline_ms = 20000) {
    auto credentials = grpc::InsecureChannelCredentials();
    if (url.rfind("https", 0) == 0) {
        std::ifstream file(getenv("CA"));
        std::stringstream pem;
        pem << file.rdbuf();
        credentials = grpc::SslCredentials({pem.str(), "", ""});
    }
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    auto channel = grpc::CreateCustomChannel(url.substr(url.find("://") + 3), credentials, arguments);
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(deadline_ms));
    for (auto &[name, value] : metadata)
        context.AddMetadata(name, value);
    grpc::CompletionQueue queue;
    auto next = [&] {
        void *tag;
        bool ok = false;
        return queue.Next(&tag, &ok) && ok;
    };
    auto call = stub.PrepareCall(&context, "/test.Calls/" + method, &queue);
    call->StartCall(nullptr);
    bool open = next();
    for (auto &data : messages) {
        if (open) {
            call->Write(message(data), nullptr);
            open = next();
        }
    }
    if (open) {
        call->WritesDone(nullptr);
        next();
    }
    grpc::ByteBuffer received;
    for (call->Read(&received, nullptr); next(); call->Read(&received, nullptr)) {
        std::string data = content(received);
        std::cout.flush();
        show_content("", data.data(), data.size());
        fflush(stdout);
    }
    grpc::Status status;
    call->Finish(&status, nullptr);
    next();
    // Which side ends a call after its deadline is chance.
    bool late = status.error_code() == grpc::DEADLINE_EXCEEDED;
    std::cout << status.error_code() << " " << (late ? "" : status.error_message()) << "\n";
    if (!late) {
        show("initial", context.GetServerInitialMetadata());
        show("trailing", context.GetServerTrailingMetadata());
    }
    queue.Shutdown();
}

static int call(const char *, const char *name_of_case, const char *url) {
    std::string name = name_of_case;
    char *large = pattern(MIB);
    std::string data(large, MIB);
    free(large);
    if (name == "unary")
        stream(url, "Echo", {"hello"});
    else if (name == "metadata")
        stream(url, "Metadata", {""}, {{"x-text", "value"}, {"x-bytes-bin", std::string("\0\xff", 2)}});
    else if (name == "large")
        stream(url, "Echo", {data});
    else if (name == "server_stream")
        stream(url, "Count", {"5"});
    else if (name == "client_stream")
        stream(url, "Sum", {"1", "22", "333"});
    else if (name == "bidi")
        stream(url, "Chat", {"message 0", "message 1", "message 2", "message 3", "message 4"});
    else if (name == "error")
        stream(url, "Fail", {""});
    else if (name == "unimplemented")
        stream(url, "Missing", {""});
    else if (name == "deadline")
        stream(url, "Wait", {""}, {}, 300);
    else
        return 0;
    std::cout.flush();
    return 1;
}

int main(int count, char **arguments) {
    run(count, arguments, call);
    return 0;
}
