/* Small tools that every file uses: cleanup attributes and integer idioms. */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LIS_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Retry what a signal may interrupt. Never close(): Linux has freed the number by then. */
#define LIS_RETRY(expr)                                                                                                \
    ({                                                                                                                 \
        __typeof__(expr) lis_r_;                                                                                       \
        do                                                                                                             \
            lis_r_ = (expr);                                                                                           \
        while (lis_r_ == -1 && errno == EINTR);                                                                        \
        lis_r_;                                                                                                        \
    })

static inline void lis_close(int fd) {
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}
static inline void lis_closep(int *fd) {
    lis_close(*fd);
}
static inline void lis_freep(void *p) {
    free(*(void **)p);
}
#define cleanup_fd __attribute__((cleanup(lis_closep)))
#define cleanup_free __attribute__((cleanup(lis_freep)))

/* Hand a descriptor over: the cleanup attribute then finds nothing to close. */
static inline int lis_take_fd(int *fd) {
    int taken = *fd;
    *fd = -EBADF;
    return taken;
}

static inline uint64_t lis_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
