/* Just enough of TAP: check(condition, "what holds"); each test program returns tap_done(). */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count, tap_failed;

#define check(condition, ...)                                                                                          \
    do {                                                                                                               \
        bool tap_ok_ = (condition);                                                                                    \
        printf("%sok %d - ", tap_ok_ ? "" : "not ", ++tap_count);                                                      \
        printf(__VA_ARGS__);                                                                                           \
        printf("\n");                                                                                                  \
        if (!tap_ok_) {                                                                                                \
            printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);                                                   \
            tap_failed++;                                                                                              \
        }                                                                                                              \
    } while (0)

static inline int tap_done(void) {
    printf("1..%d\n", tap_count);
    return tap_failed != 0;
}

/* A directory of the test's own, or the end of it. */
static inline const char *tap_directory(char *template_) {
    if (!mkdtemp(template_)) {
        printf("Bail out! mkdtemp\n");
        exit(99);
    }
    return template_;
}
