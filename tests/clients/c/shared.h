/* What the programs of C and C++ libraries share: test data and the form of results. */
#ifndef SHARED_H
#define SHARED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MIB (1 << 20)

/* Returns bytes whose order is not that of a counter. */
static inline char *pattern(size_t size) {
    char *data = (char *)malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 + (i >> 8));
    data[size] = 0;
    return data;
}

/* Prints a short body as text, a long one as a digest. */
static inline void show_content(const char *label, const char *data, size_t size) {
    if (size < 100) {
        while (size > 0 && data[size - 1] == '\n')
            size--;
        printf("%s%.*s\n", label, (int)size, data);
    } else {
        printf("%s%zu bytes %08lx\n", label, size, crc32(0, (const unsigned char *)data, (unsigned)size));
    }
}

/* Runs `PROGRAM KIND URL CASE...`. Each result follows a line with the case; `{}` in the URL becomes the case.
   `call` returns 0 for a case that the library cannot run. */
static inline void run(int count, char **arguments, int (*call)(const char *kind, const char *name, const char *url)) {
    for (int i = 3; i < count; i++) {
        char url[512];
        const char *hole = strstr(arguments[2], "{}");
        if (hole)
            snprintf(url, sizeof url, "%.*s%s%s", (int)(hole - arguments[2]), arguments[2], arguments[i], hole + 2);
        else
            snprintf(url, sizeof url, "%s", arguments[2]);
        printf("== %s\n", arguments[i]);
        fflush(stdout);
        if (!call(arguments[1], arguments[i], url))
            printf("unsupported\n");
        fflush(stdout);
    }
}

#endif
