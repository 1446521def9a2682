/* The mark of a command: inherited by all that descends from it, and not to be taken off. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inside.h"
#include "lis.h"
#include "tap.h"

static struct lis_tag_base base;

/* A process with the mark `tag` that then calls `act` and waits to be killed; it is ready when this returns. */
static pid_t marked(uint32_t tag, void (*act)(void)) {
    int ready[2];
    char byte;
    if (pipe(ready) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        lis_tag_set(&base, tag);
        if (act)
            act();
        if (write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    ssize_t got = read(ready[0], &byte, 1);
    close(ready[0]);
    return got == 1 ? pid : -1;
}

static bool died(pid_t pid) {
    int status;
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool lives(pid_t pid) {
    return waitpid(pid, NULL, WNOHANG) == 0;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void lower(__rlimit_resource_t which, uint64_t by) {
    struct rlimit limit;
    getrlimit(which, &limit);
    limit.rlim_cur = limit.rlim_max = limit.rlim_max - by;
    setrlimit(which, &limit);
}
static void claim_older(void) {
    lower(RLIMIT_RSS, 1);
}
static void claim_newer(void) {
    lower(RLIMIT_LOCKS, 1);
}
static void wipe(void) {
    struct rlimit zero = {0, 0};
    setrlimit(RLIMIT_RSS, &zero);
    setrlimit(RLIMIT_LOCKS, &zero);
}
static void try_to_raise(void) {
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_RSS, &most);
    setrlimit(RLIMIT_LOCKS, &most);
}
static void leave_session(void) {
    setsid();
    signal(SIGTERM, SIG_IGN);
}

int main(void) {
    /* A hard limit holds only those without CAP_SYS_RESOURCE, as all in a sandbox are. */
    if ((geteuid() == 0 && lis_drop_privileges(0) < 0) || lis_tag_base(&base) < 0) {
        printf("Bail out! no room for marks\n");
        return 99;
    }
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pid_t other = marked(6, NULL), unmarked = fork();
    if (unmarked == 0)
        for (;;)
            pause();

    static const struct {
        const char *what;
        void (*act)(void);
    } cases[] = {{"a plain process", NULL},
                 {"one that left its session and ignores SIGTERM", leave_session},
                 {"one that claims an older command's mark", claim_older},
                 {"one that claims a newer command's mark", claim_newer},
                 {"one that wiped both limits", wipe},
                 {"one that tried to raise both limits", try_to_raise}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pid_t member = marked(5, cases[i].act);
        check(lis_tree_kill(proc, &base, 5) > 0, "%s is found", cases[i].what);
        check(died(member), "%s is killed", cases[i].what);
        check(lis_tree_kill(proc, &base, 5) == 0, "and then nothing of the command is left");
    }
    check(lives(other), "another command's process lives on");
    check(lives(unmarked), "a process without a mark lives on");
    end(other);
    end(unmarked);
    close(proc);
    return tap_done();
}
