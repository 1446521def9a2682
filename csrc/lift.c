/* Modes of what a program in a sandbox has made, and may replace by something else while we look: by descriptor. fchmodat(2)
 * follows a link that stands in the last place, and the flag against that is new (6.6): a watchdog that set modes so, on the
 * host and as its user, could be shown a link to any file of that user. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "util.h"

int lis_lift(int dir, const char *name, int flags, mode_t *ret_mode) {
    cleanup_fd int holder = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC | flags);
    struct stat st;
    if (holder < 0 || fstat(holder, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return -ELOOP;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", holder);
    if ((st.st_mode & 0700) != 0700 && chmod(path, (st.st_mode & 07777) | 0700) < 0)
        return -errno;
    if (ret_mode)
        *ret_mode = st.st_mode & 07777;
    return lis_take_fd(&holder);
}
