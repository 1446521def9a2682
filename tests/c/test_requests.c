/* The strings of requests: found where they are, and refused where they are not. */
#define _GNU_SOURCE
#include <errno.h>

#include "inside.h"
#include "lis.h"
#include "tap.h"

/* The text in memory of just its size, so that the sanitizer sees a byte read too many. */
static int split(const char *text, size_t size, uint32_t argc, uint32_t envc) {
    char *copy = malloc(size);
    struct lis_exec_strings strings = {0};
    memcpy(copy, text, size);
    int r = lis_exec_split(copy, size, argc, envc, &strings);
    free(strings.argv);
    free(copy);
    return r;
}

static void test_exec(void) {
    char text[] = "/dir\0sh\0-c\0\0A=1";
    struct lis_exec_strings strings;
    check(lis_exec_split(text, sizeof text, 3, 1, &strings) == 0, "the strings of an EXEC are found");
    check(strcmp(strings.cwd, "/dir") == 0 && strcmp(strings.argv[0], "sh") == 0 &&
              strcmp(strings.argv[1], "-c") == 0 && strings.argv[2][0] == 0 && !strings.argv[3] &&
              strcmp(strings.envp[0], "A=1") == 0 && !strings.envp[1],
          "each in its place, with a NULL after the last");
    free(strings.argv);
    check(split("/\0a", 4, 1, 0) == 0, "the smallest has a directory and a program");
    check(split("/\0a", 4, 0, 1) == -EPROTO, "none without a program");
    check(split("/\0a", 4, 2, 0) == -EPROTO, "none with fewer strings than it says");
    check(split("/\0a", 4, 1, 1) == -EPROTO, "nor with fewer variables");
    check(split("/\0ab", 4, 1, 0) == -EPROTO, "none without a NUL at its end");
    check(split("", 0, 1, 0) == -EPROTO, "none without a byte");
    check(split("/\0a", 4, UINT32_MAX, UINT32_MAX) == -EPROTO, "none with more strings than memory");
}

static int decode(uint32_t magic, const char *text, size_t size, const char **path, const char **second) {
    static struct {
        struct lis_file_request request;
        char text[16384];
    } message;
    message.request.header.magic = magic;
    memcpy(message.text, text, size);
    return lis_file_request_decode(&message.request, (ssize_t)(sizeof message.request + size), path, second);
}

static void test_files(void) {
    const char *path = NULL, *second = NULL;
    check(decode(LIS_MAGIC, "/a\0b", 5, &path, &second) == 0 && strcmp(path, "/a") == 0 && strcmp(second, "b") == 0,
          "a file request has a path and a target");
    check(decode(LIS_MAGIC, "/a", 3, &path, &second) == 0 && second[0] == 0, "the target may be missing");
    check(decode(LIS_MAGIC + 1, "/a", 3, &path, &second) == -EPROTO, "another version is refused");
    check(decode(LIS_MAGIC, "/ab", 3, &path, &second) == -EPROTO, "so is a path without an end");
    check(decode(LIS_MAGIC, "", 0, &path, &second) == -EPROTO, "and none at all");
    check(decode(LIS_MAGIC, "a", 2, &path, &second) == -EINVAL, "a path is absolute");
    check(decode(LIS_MAGIC, "", 1, &path, &second) == -EINVAL, "and not empty");
    char longest[4098];
    memset(longest, '/', sizeof longest);
    longest[4096] = 0;
    check(decode(LIS_MAGIC, longest, 4097, &path, &second) == -ENAMETOOLONG, "4096 bytes are too many");
    longest[4095] = 0;
    check(decode(LIS_MAGIC, longest, 4096, &path, &second) == 0, "4095 are not");
}

int main(void) {
    test_exec();
    test_files();
    return tap_done();
}
