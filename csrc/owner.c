/* What a dead owner has left: whether it is ours to judge, and its removal. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "util.h"

/* File systems that no other kernel has mounted at the same time: there a lock that is free is free everywhere. */
static const uint32_t local_types[] = {
    0xef53,     /* ext4 */
    0x58465342, /* xfs */
    0x9123683e, /* btrfs */
    0x01021994, /* tmpfs */
    0xf2f52010, /* f2fs */
    0x2fc12fc1, /* zfs */
    0xca451a4e, /* bcachefs */
    0x794c7630, /* overlay: a container's root */
};

static bool is_local(int dir) {
    struct statfs fs;
    if (fstatfs(dir, &fs) < 0)
        return false;
    for (size_t i = 0; i < LIS_COUNT(local_types); i++)
        if ((uint32_t)fs.f_type == local_types[i])
            return true;
    return false;
}

/* Reads a small text into `buffer`, NUL-terminated. */
static int read_text(int dir, const char *path, char *buffer, size_t size) {
    cleanup_fd int fd = openat(dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : LIS_RETRY(read(fd, buffer, size - 1));
    if (got < 0)
        return -errno;
    buffer[got] = 0;
    return 0;
}

static bool says(const char *record, const char *key, const char *value) {
    char line[320];
    int length = snprintf(line, sizeof line, "\n%s %s\n", key, value);
    return *value && length < (int)sizeof line && strstr(record, line);
}

/* flock(2) may be a matter of each node alone on a file system that several nodes share: there a free lock says nothing
 * about an owner on another node. Its record does. Of the same boot it ran under this kernel, which knows the lock. Of this
 * host's name and another boot, it ended with that boot; names that many hosts have prove nothing. */
int lis_owner_is_of_here(int base, const char *name) {
    cleanup_fd int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (is_local(dir < 0 ? base : dir))
        return 1;
    char record[4096], boot[64] = "", host[256] = "";
    if (dir < 0 || read_text(dir, LIS_OWNER_RECORD, record, sizeof record) < 0)
        return 0;
    if (read_text(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot, sizeof boot) == 0) {
        boot[strcspn(boot, "\n")] = 0;
        if (says(record, "boot", boot))
            return 1;
    }
    if (gethostname(host, sizeof host - 1) < 0 || strncmp(host, "localhost", 9) == 0 || host[0] == '(')
        return 0;
    return says(record, "host", host);
}

/* THE place where all that an owner leaves goes: by the spawner at its own end, by the next start, by `lisrt gc`. What lies
 * outside the directory must go first and be found by the record, which is deleted last, and only when all else is gone: a
 * removal that was cut short, or that others have the power for (ids.c), can be taken up again by whoever comes next. */
int lis_owner_remove(int base, const char *name, uint64_t deadline) {
    int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = dir < 0 ? NULL : fdopendir(dir);
    if (!listing)
        lis_close(dir);
    int r = 0, failed = 0;
    for (struct dirent *entry; listing && r != -ETIME && (entry = readdir(listing));) {
        const char *inner = entry->d_name;
        if (strcmp(inner, ".") != 0 && strcmp(inner, "..") != 0 && strcmp(inner, LIS_OWNER_RECORD) != 0 &&
            unlinkat(dir, inner, 0) < 0) {
            r = lis_remove_tree_until(dir, inner, deadline);
            failed = r < 0 && r != -ENOENT ? r : failed;
        }
    }
    if (listing)
        closedir(listing);
    return failed ? failed : lis_remove_tree_until(base, name, deadline);
}

int lis_owner_remove_within(int base, const char *name, unsigned milliseconds) {
    return lis_owner_remove(base, name, lis_now_ns() + milliseconds * (uint64_t)1000000);
}
