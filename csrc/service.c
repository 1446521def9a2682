/* Processes beside the sandboxes, children of the spawner: trash, which deletes what sandboxes wrote, and the watchdogs.
 * Each does work that takes as long as untrusted code wants it to take. */
#define _GNU_SOURCE
#include "lis.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sys.h"
#include "util.h"

static void serve_trash(int requests) __attribute__((noreturn));
static void serve_trash(int requests) {
    lis_collect(LIS_SPAWNER_BASE_DIR);
    cleanup_fd int scratch = open("/s", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char id[LIS_ID_SIZE];
    while (LIS_RETRY(read(requests, id, sizeof id)) == (ssize_t)sizeof id)
        lis_remove_tree(scratch, id); /* what can't be removed now is tried again with the owner's directory */
    _exit(0);
}

int lis_trash_start(struct lis_trash *trash) {
    pid_t pid = fork();
    if (pid == 0) {
        close(trash->names[1]);
        close(LIS_SPAWNER_CONTROL); /* or Python would take the spawner for alive while this one is */
        prctl(PR_SET_NAME, "lisrt-trash", 0, 0, 0);
        setpriority(PRIO_PROCESS, 0, 19);
        serve_trash(trash->names[0]);
    }
    trash->pid = pid; /* -1: tried again when there is something to delete */
    return pid < 0 ? -errno : 0;
}

int lis_trash_open(struct lis_trash *trash) {
    if (pipe2(trash->names, O_CLOEXEC) < 0 || fcntl(trash->names[1], F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    return lis_trash_start(trash);
}

void lis_trash_throw(struct lis_trash *trash, const char id[LIS_ID_SIZE]) {
    if (trash->pid < 0)
        lis_trash_start(trash); /* it could not be started when it was last tried */
    /* A full pipe means that deletion is far behind; this one then goes with the owner's directory. */
    ssize_t written = write(trash->names[1], id, LIS_ID_SIZE);
    (void)written;
}

pid_t lis_watchdog_start(enum lis_watchdog which, struct lis_accounts *accounts) {
    pid_t pid = fork();
    if (pid != 0)
        return pid < 0 ? -errno : pid;
    /* with the owner's descriptors open it would keep the owner's lock */
    const int offers = 0;
    if (dup2(accounts->offers_in, offers) < 0)
        _exit(1);
    sys_close_range(offers + 1, ~0u, 0);
    bool memory = which == LIS_WATCHDOG_MEMORY;
    prctl(PR_SET_NAME, memory ? "lisrt-watchdog" : "lisrt-disk", 0, 0, 0);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* two for each sandbox; one a level of a tree */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (memory)
        lis_watch_memory(accounts, offers);
    lis_watch_disk(accounts);
}
