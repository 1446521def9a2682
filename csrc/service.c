/* Processes beside the sandboxes, children of the spawner: trash, which deletes what sandboxes wrote, and the watchdogs.
 * Each does work that takes as long as untrusted code wants it to take. */
#define _GNU_SOURCE
#include "lis.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sys.h"
#include "util.h"

static const char collect_now[LIS_ID_SIZE]; /* no sandbox has the empty name */

static void answer_collected(uint32_t count) {
    struct lis_count_message answer = {{LIS_MAGIC, LIS_COLLECTED}, count};
    lis_send(LIS_SPAWNER_CONTROL, &answer, sizeof answer, NULL, 0);
}

static uint32_t collect(void) {
    int removed = lis_collect(LIS_SPAWNER_BASE_DIR);
    return removed < 0 ? 0 : (uint32_t)removed;
}

static void serve_trash(int requests, int answers) __attribute__((noreturn));
static void serve_trash(int requests, int answers) {
    uint32_t collected = collect();
    cleanup_fd int scratch = open("/s", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char id[LIS_ID_SIZE];
    while (LIS_RETRY(read(requests, id, sizeof id)) == (ssize_t)sizeof id)
        if (memcmp(id, collect_now, sizeof id) == 0) {
            collected += collect(); /* what went at the start counts: nobody has been told of it yet */
            if (write(answers, &collected, sizeof collected) != (ssize_t)sizeof collected)
                _exit(1);
            collected = 0;
        } else {
            lis_remove_tree(scratch, id); /* what can't be removed now is tried again with the owner's directory */
        }
    _exit(0);
}

int lis_trash_start(struct lis_trash *trash) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        int r = -errno;
        close(in[0]);
        close(in[1]);
        return r;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(in[1]);
        close(out[0]);
        close(LIS_SPAWNER_CONTROL); /* or Python would take the spawner for alive while this one is */
        prctl(PR_SET_NAME, "lisrt-trash", 0, 0, 0);
        setpriority(PRIO_PROCESS, 0, 19);
        serve_trash(in[0], out[1]);
    }
    int r = pid < 0 ? -errno : 0;
    close(in[0]);
    close(out[1]);
    if (r == 0 && (fcntl(in[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0))
        r = -errno;
    trash->pid = pid;
    trash->in = in[1];
    trash->collected = out[0];
    return r;
}

void lis_trash_restart(struct lis_trash *trash) {
    trash->pid = -1;
    lis_close(lis_take_fd(&trash->in));
    lis_close(lis_take_fd(&trash->collected));
    for (; trash->asked > 0; trash->asked--)
        answer_collected(0);
    lis_trash_start(trash);
}

void lis_trash_throw(struct lis_trash *trash, const char id[LIS_ID_SIZE]) {
    if (trash->pid < 0)
        lis_trash_restart(trash); /* it could not be started when it was last tried */
    /* A full pipe means that deletion is far behind; this one then goes with the owner's directory. */
    ssize_t written = write(trash->in, id, LIS_ID_SIZE);
    (void)written;
}

void lis_trash_collect(struct lis_trash *trash) {
    if (write(trash->in, collect_now, LIS_ID_SIZE) == LIS_ID_SIZE)
        trash->asked++;
    else
        answer_collected(0); /* deletion is too far behind to be asked for more */
}

void lis_trash_answer(struct lis_trash *trash) {
    uint32_t count;
    ssize_t got = read(trash->collected, &count, sizeof count);
    if (got == (ssize_t)sizeof count) {
        answer_collected(count);
        trash->asked--;
    } else if (got == 0) {
        lis_close(lis_take_fd(&trash->collected)); /* it died: its SIGCHLD is on the way */
    }
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
