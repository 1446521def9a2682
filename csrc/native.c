/* The functions of the cffi extension that are not already elsewhere. Pure C: no Python.h here. */
#define _GNU_SOURCE
#include "native.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lis.h"
#include "outside.h"
#include "sys.h"
#include "util.h"

int lis_stage_count(void) {
    return LIS_STAGE_COUNT;
}

int lis_plan_check(const char *buffer, size_t size, char *ret_reason, size_t reason_size) {
    cleanup_free struct lis_plan *plan = malloc(sizeof *plan); /* too large for a thread's stack of unknown size */
    struct lis_fault fault;
    if (!plan)
        return -ENOMEM;
    int r = lis_plan_decode(buffer, size, plan, &fault);
    if (r < 0)
        snprintf(ret_reason, reason_size, "%s", fault.path);
    return r < 0 ? r : (int)plan->nsteps;
}

int lis_open_beneath(int dir, const char *path, int flags, unsigned mode) {
    int fd = sys_openat2(dir, path, flags | O_CLOEXEC, mode,
                         SYS_RESOLVE_BENEATH | SYS_RESOLVE_NO_SYMLINKS | SYS_RESOLVE_NO_MAGICLINKS);
    return fd < 0 ? -errno : fd;
}

/* As chroot would: an absolute link, and `..` at the top, lead to the root. */
int lis_open_in_root(int root, const char *path, int flags) {
    int fd = sys_openat2(root, path, flags | O_CLOEXEC, 0, SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS);
    return fd < 0 ? -errno : fd;
}

int lis_sync_filesystem(int fd) {
    return syncfs(fd) < 0 ? -errno : 0;
}

/* Bytes of a file that are in the page cache. */
long long lis_cached_bytes(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0)
        return 0;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = ((size_t)st.st_size + page - 1) / page;
    cleanup_free unsigned char *resident = malloc(pages);
    void *map = resident ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED)
        return resident ? -errno : -ENOMEM;
    int r = mincore(map, (size_t)st.st_size, resident) < 0 ? -errno : 0;
    munmap(map, (size_t)st.st_size);
    long long count = 0;
    for (size_t i = 0; r == 0 && i < pages; i++)
        count += resident[i] & 1;
    return r < 0 ? r : count * (long long)page;
}

/* Some milliseconds at a time, so that Python serves signals in between: -ETIME when something is left. */
int lis_remove_tree_within(int dir, const char *name, unsigned milliseconds) {
    return lis_remove_tree_until(dir, name, lis_now_ns() + milliseconds * (uint64_t)1000000);
}

/* Whether Landlock can keep a sandbox among its own abstract sockets: its ABI 6. */
int lis_landlock_scopes(void) {
    return syscall(444 /* landlock_create_ruleset */, NULL, 0, 1 /* which version */) >= 6;
}

/* The names below /proc that are hidden in sandboxes, one after the other; NULL at the end. */
const char *lis_private_in_proc(size_t number) {
    static const char *const names[] = {LIS_PRIVATE_IN_PROC};
    return number < LIS_COUNT(names) ? names[number] : NULL;
}
