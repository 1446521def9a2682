/* Processes beside the sandboxes, children of the spawner: trash, which deletes what sandboxes wrote, and the watchdogs.
 * Each does work that takes as long as untrusted code wants it to take. */
#define _GNU_SOURCE
#include "bounds.h"
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sys.h"
#include "util.h"

#define MOST_AT_ONCE 256

/* As many as come before there is a quiet moment: a snapshot ends a sandbox and makes another, and deleting the one's directories
 * took a CPU, and locks of the file system, from making the other's. 0: there will be no more. */
static size_t gather(int requests, char ids[MOST_AT_ONCE][LIS_ID_SIZE]) {
    struct pollfd more = {.fd = requests, .events = POLLIN};
    size_t count = 0;
    do {
        if (LIS_RETRY(read(requests, ids[count], LIS_ID_SIZE)) != LIS_ID_SIZE)
            break;
        count++;
    } while (count < MOST_AT_ONCE && LIS_RETRY(poll(&more, 1, LIS_QUIET_MS)) > 0);
    return count;
}

static void serve_trash(int requests) __attribute__((noreturn));
static void serve_trash(int requests) {
    lis_collect(LIS_SPAWNER_BASE_DIR);
    char ids[MOST_AT_ONCE][LIS_ID_SIZE];
    /* what can't be removed now is tried again with the owner's directory */
    for (size_t count; (count = gather(requests, ids)) > 0;)
        for (size_t i = 0; i < count; i++)
            lis_remove_tree(LIS_SPAWNER_OWNER_DIR, ids[i]);
    _exit(0);
}

int lis_trash_start(struct lis_trash *trash) {
    pid_t pid = fork();
    if (pid == 0) {
        close(trash->names[1]);
        close(LIS_SPAWNER_CONTROL); /* or Python would take the spawner for alive while this one is */
        if (trash->bwrap)
            lis_bwrap_leave(trash->bwrap);
        prctl(PR_SET_NAME, "lisrt-trash", 0, 0, 0);
        setpriority(PRIO_PROCESS, 0, 19);
        serve_trash(trash->names[0]);
    }
    trash->pid = pid; /* -1: tried again when there is something to delete */
    return pid < 0 ? -errno : 0;
}

int lis_trash_open(struct lis_trash *trash, const struct lis_bwrap *bwrap) {
    trash->bwrap = bwrap;
    if (pipe2(trash->names, O_CLOEXEC) < 0 || fcntl(trash->names[1], F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    fcntl(trash->names[1], F_SETPIPE_SZ,
          1 << 20); /* 40,000 names, where the user's share of pipes allows it, not 2,700 */
    return lis_trash_start(trash);
}

void lis_trash_throw(struct lis_trash *trash, const char id[LIS_ID_SIZE]) {
    if (trash->pid < 0)
        lis_trash_start(trash); /* it could not be started when it was last tried */
    /* A full pipe means that deletion is far behind; this one then goes with the owner's directory. */
    ssize_t written = write(trash->names[1], id, LIS_ID_SIZE);
    (void)written;
}

pid_t lis_watchdog_start(enum lis_watchdog which, const struct lis_accounts *accounts, const char *part) {
    pid_t pid = fork();
    if (pid != 0)
        return pid < 0 ? -errno : pid;
    /* With the owner's descriptors open, or the lifeline, it would keep what it serves alive. The directory it needs, but not
     * as the spawner has it: the lock on that is the owner's life, too. */
    const bool memory = which == LIS_WATCHDOG_MEMORY;
    int needed = memory ? accounts->offers_in : openat(LIS_SPAWNER_OWNER_DIR, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (needed < 0 || dup2(needed, 0) < 0)
        _exit(1);
    sys_close_range(1, ~0u, 0);
    prctl(PR_SET_NAME, memory ? "lisrt-watchdog" : "lisrt-disk", 0, 0, 0);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* two for each sandbox; one a level of a tree */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (memory)
        lis_watch_memory(accounts->table, 0);
    lis_watch_disk(accounts->table, 0, part);
}
