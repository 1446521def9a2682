/* `lisrt-helper probe NAME[=PLACE]...`: what this host's kernel lets us do, found out by doing it.
 *
 * Each probe runs in a process of its own and leaves nothing: what it makes is in namespaces that end with it, or in a
 * directory or cgroup that this file makes before and removes after it, even when nobody reads the answers any more.
 * One line for each, in the order of the arguments: NAME[=PLACE] STATUS ERRNO WORDS, with tabs between. */
#define _GNU_SOURCE
#include "probe.h"
#include "outside.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "util.h"

#define PATIENCE_NS 10000000000u

__attribute__((format(printf, 4, 0))) static int say(struct lis_outcome *out, int status, int err, const char *words,
                                                     va_list rest) {
    out->err = err;
    vsnprintf(out->detail, sizeof out->detail, words, rest);
    out->status = status;
    return status == LIS_PROBE_WORKS ? 0 : -1;
}

#define SAY(status, err)                                                                                               \
    va_list rest;                                                                                                      \
    va_start(rest, words);                                                                                             \
    int r = say(out, status, err, words, rest);                                                                        \
    va_end(rest);                                                                                                      \
    return r

int lis_works(struct lis_outcome *out, const char *words, ...) {
    SAY(LIS_PROBE_WORKS, 0);
}
int lis_weaker(struct lis_outcome *out, int err, const char *words, ...) {
    SAY(LIS_PROBE_WEAKER, err);
}
int lis_fails(struct lis_outcome *out, int err, const char *words, ...) {
    SAY(LIS_PROBE_FAILS, err);
}
int lis_untried(struct lis_outcome *out, int err, const char *words, ...) {
    SAY(LIS_PROBE_UNTRIED, err);
}

int lis_probe_enter(int namespaces, struct lis_outcome *out) {
    struct lis_fault fault;
    if (lis_host_enter_user_namespace(NULL, &fault) < 0)
        return lis_untried(out, fault.err, "needs a user namespace");
    if (unshare(namespaces) < 0)
        return lis_untried(out, errno, "needs other namespaces");
    if (namespaces & CLONE_NEWNS && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return lis_untried(out, errno, "needs private mounts");
    return 0;
}

int lis_probe_become_first(struct lis_outcome *out) {
    if (lis_probe_enter(CLONE_NEWNS | CLONE_NEWPID, out) < 0)
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return lis_untried(out, errno, "fork");
    if (pid > 0) {
        waitpid(pid, NULL, 0);
        _exit(0); /* the outcome is in memory that both share */
    }
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return lis_untried(out, errno, "needs a fresh /proc");
    return 0;
}

static const struct lis_probe *find(const char *name, size_t length) {
    static const struct lis_probe *const tables[] = {lis_namespace_probes, lis_file_probes, lis_call_probes,
                                                     lis_network_probes};
    for (size_t i = 0; i < LIS_COUNT(tables); i++)
        for (const struct lis_probe *probe = tables[i]; probe->name; probe++)
            if (strlen(probe->name) == length && memcmp(probe->name, name, length) == 0)
                return probe;
    return NULL;
}

/* Waits for the probe, with patience, then for whatever it has left: we are the reaper of its orphans. */
static void await(pid_t pid, struct lis_outcome *out) {
    const uint64_t deadline = lis_now_ns() + PATIENCE_NS;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int status = 0;
    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            break;
        uint64_t now = lis_now_ns();
        if (now >= deadline) {
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL); /* it may have left its group */
            waitpid(pid, &status, 0);
            lis_untried(out, ETIMEDOUT, "no end within 10 s");
            break;
        }
        struct timespec left = {.tv_sec = (time_t)((deadline - now) / 1000000000u),
                                .tv_nsec = (long)((deadline - now) % 1000000000u)};
        sigtimedwait(&child, NULL, &left);
    }
    kill(-pid, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    if (out->status < 0)
        lis_fails(out, 0, "killed by signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void run(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    out->status = -1;
    pid_t pid = fork();
    if (pid < 0) {
        lis_untried(out, errno, "fork");
        return;
    }
    if (pid == 0) {
        setpgid(0, 0);
        probe->run(probe, place, out);
        _exit(0);
    }
    setpgid(pid, pid); /* by both, so that the group is there for the first who needs it; one of them finds it done */
    await(pid, out);
}

static void run_in_directory(const struct lis_probe *probe, const char *base, struct lis_outcome *out) {
    char place[4096];
    int length = snprintf(place, sizeof place, "%s/.lisrt-probe-XXXXXX", base);
    if (length >= (int)sizeof place || !mkdtemp(place)) {
        lis_fails(out, length >= (int)sizeof place ? ENAMETOOLONG : errno, "make a directory");
        return;
    }
    run(probe, place, out);
    int r = lis_remove_tree(AT_FDCWD, place);
    if (r < 0 && out->status == LIS_PROBE_WORKS)
        lis_weaker(out, -r, "could not be removed: %.120s", place);
}

static void run_in_cgroup(const struct lis_probe *probe, const char *base, struct lis_outcome *out) {
    char place[4096];
    int length = snprintf(place, sizeof place, "%s/lisrt-probe-%d", base, getpid());
    if (length >= (int)sizeof place || mkdir(place, 0755) < 0) {
        lis_fails(out, length >= (int)sizeof place ? ENAMETOOLONG : errno, "make a child cgroup");
        return;
    }
    run(probe, place, out);
    /* the last process has been reaped; some kernels let go of the cgroup a moment later */
    const uint64_t deadline = lis_now_ns() + PATIENCE_NS;
    int r;
    while ((r = rmdir(place)) < 0 && errno == EBUSY && lis_now_ns() < deadline)
        sched_yield();
    if (r < 0 && out->status == LIS_PROBE_WORKS)
        lis_weaker(out, errno, "could not be removed: %.120s", place);
}

static void print(const char *name, const struct lis_outcome *out) {
    for (const char *at = name; *at; at++)
        putchar(*at < ' ' ? '?' : *at);
    printf("\t%d\t%d\t", out->status, out->err);
    for (const char *at = out->detail; *at; at++)
        putchar((unsigned char)*at < ' ' ? ' ' : *at);
    putchar('\n');
    fflush(stdout);
}

int lis_probe_main(int count, char **names) {
    struct lis_outcome *out = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (out == MAP_FAILED)
        return 1;
    lis_forget_parent(); /* a session of our own: Ctrl-C does not come between a probe and its removal */
    signal(SIGPIPE, SIG_IGN);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    for (int i = 0; i < count; i++) {
        size_t length = strcspn(names[i], "=");
        const struct lis_probe *probe = find(names[i], length);
        const char *place = names[i][length] ? names[i] + length + 1 : NULL;
        memset(out, 0, sizeof *out);
        if (!probe || (probe->place != LIS_PLACE_NONE) != (place != NULL))
            lis_untried(out, EINVAL, "no such probe");
        else if (probe->place == LIS_PLACE_DIRECTORY)
            run_in_directory(probe, place, out);
        else if (probe->place == LIS_PLACE_CGROUP)
            run_in_cgroup(probe, place, out);
        else
            run(probe, NULL, out);
        print(names[i], out);
    }
    munmap(out, sizeof *out);
    return 0;
}
