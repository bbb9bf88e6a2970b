/* libcurl: HTTP/1.1, and HTTP/2 with and without TLS. */
#include "shared.h"
#include <curl/curl.h>
#include <ctype.h>

struct buffer {
    char *data;
    size_t size;
};

static size_t append(char *part, size_t one, size_t size, void *target) {
    struct buffer *buffer = target;
    (void)one;
    buffer->data = realloc(buffer->data, buffer->size + size + 1);
    memcpy(buffer->data + buffer->size, part, size);
    buffer->size += size;
    buffer->data[buffer->size] = 0;
    return size;
}

static size_t supply(char *target, size_t one, size_t size, void *source) {
    struct buffer *buffer = source;
    size_t part = one * size < buffer->size ? one * size : buffer->size;
    memcpy(target, buffer->data, part);
    buffer->data += part;
    buffer->size -= part;
    return part;
}

static int by_name(const void *a, const void *b) { return strcasecmp(*(char *const *)a, *(char *const *)b); }

/* Prints all head lines: status lines in their order, then fields by name. */
static void show_head(char *head) {
    char *fields[64];
    int count = 0;
    for (char *line = strtok(head, "\r\n"); line; line = strtok(NULL, "\r\n")) {
        if (!strncmp(line, "HTTP/", 5))
            printf("%s\n", line);
        else if (strncasecmp(line, "date:", 5) && strncasecmp(line, "connection:", 11) && strncasecmp(line, "keep-alive:", 11) && count < 64)
            fields[count++] = line;
    }
    qsort(fields, count, sizeof *fields, by_name);
    for (int i = 0; i < count; i++)
        printf("%s\n", fields[i]);
}

struct request {
    const char *method, *path;
    size_t size;
    int chunked, expects;
};

static const struct {
    const char *name;
    struct request requests[4];
} CASES[] = {
    {"get", {{"GET", "/get"}}},
    {"head", {{"HEAD", "/get"}}},
    {"post_length", {{"POST", "/echo", 12}}},
    {"post_chunked", {{"POST", "/echo", 12, 1}}},
    {"keep_alive", {{"GET", "/get"}, {"POST", "/echo", 12}, {"HEAD", "/get"}, {"GET", "/chunked"}}},
    {"expect", {{"POST", "/echo", 65536, 0, 1}}},
    {"upload", {{"POST", "/echo", MIB}}},
    {"upload_chunked", {{"POST", "/echo", MIB, 1}}},
    {"download", {{"GET", "/big"}, {"GET", "/chunked"}}},
    {"early_small", {{"POST", "/early", 65536}}},
    {"early_large", {{"POST", "/early", 8 * MIB}}},
    {"limited_small", {{"POST", "/limited", 65536}}},
    {"limited_large", {{"POST", "/limited", 8 * MIB}}},
    /* Trailers are printed as fields. */
    {"trailers", {{"GET", "/trailers"}}},
};

static void perform(CURL *curl, const char *kind, const char *url, const struct request *request) {
    char target[600], error[CURL_ERROR_SIZE] = "";
    struct buffer head = {0}, body = {0}, sent = {0};
    char *data = NULL;
    struct curl_slist *fields = NULL;
    snprintf(target, sizeof target, "%s%s", url, request->path);
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, target);
    curl_easy_setopt(curl, CURLOPT_CAINFO, getenv("CA"));
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &head);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION,
        !strcmp(kind, "http1") ? CURL_HTTP_VERSION_1_1
        : !strcmp(kind, "http2") ? CURL_HTTP_VERSION_2TLS
                                 : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    if (!strcmp(request->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (request->size) {
        data = request->size == 12 ? strdup("a small body") : pattern(request->size);
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        fields = curl_slist_append(fields, "Content-Type: application/octet-stream");
        if (request->chunked) {
            sent = (struct buffer){data, request->size};
            curl_easy_setopt(curl, CURLOPT_READFUNCTION, supply);
            curl_easy_setopt(curl, CURLOPT_READDATA, &sent);
            if (!strcmp(kind, "http1"))
                fields = curl_slist_append(fields, "Transfer-Encoding: chunked");
        } else {
            curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)request->size);
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, data);
        }
        /* Above 1 MiB libcurl expects 100 unless it is told not to. */
        fields = curl_slist_append(fields, request->expects ? "Expect: 100-continue" : "Expect:");
        curl_easy_setopt(curl, CURLOPT_EXPECT_100_TIMEOUT_MS, 8000L);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    CURLcode result = curl_easy_perform(curl);
    if (head.data)
        show_head(head.data);
    if (result)
        printf("error %d %s\n", result, error[0] ? error : curl_easy_strerror(result));
    show_content("body ", body.data ? body.data : "", body.size);
    curl_slist_free_all(fields);
    free(data);
    free(head.data);
    free(body.data);
}

static int call(const char *kind, const char *name, const char *url) {
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        if (strcmp(name, CASES[i].name))
            continue;
        CURL *curl = curl_easy_init();
        for (int j = 0; j < 4 && CASES[i].requests[j].method; j++)
            perform(curl, kind, url, &CASES[i].requests[j]);
        curl_easy_cleanup(curl);
        return 1;
    }
    return 0;
}

int main(int count, char **arguments) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    run(count, arguments, call);
    return 0;
}
