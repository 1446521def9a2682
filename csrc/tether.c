/* Helper mode `tether`: a program of the host that runs beside a Python for as long as that lives, and is no child of it. Python
 * holds the other end of a socket: its end is the program's, and the program's end is an end of file there. Mode `tether-inside`:
 * with all power over the user namespace that is its first descriptor, and none outside. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

/* The numbers under which Python hands its descriptors over. The program gets its own 0, 1 and 2, and from 5 on what else comes. */
enum { TETHER = 3, OUTPUT = 4, FIRST_FREE = LIS_TETHER_PASSED + LIS_TETHER_COUNT };

static void run_program(char *const argv[], bool inside) __attribute__((noreturn));
static void run_program(char *const argv[], bool inside) {
    char *const envp[] = {NULL};
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0,
          0); /* until it takes other credentials: whoever kills this helper kills half */
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(OUTPUT, 1) < 0 || dup2(OUTPUT, 2) < 0)
        _exit(127);
    struct rlimit
        files; /* a Python's own limit is often 1,024; this one has a descriptor for each connection of all sandboxes */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (inside && setns(LIS_TETHER_PASSED, CLONE_NEWUSER) < 0) {
        dprintf(2, "could not join the user namespace: %s\n", strerror(errno));
        _exit(127);
    }
    for (int fd = LIS_TETHER_PASSED; fd < FIRST_FREE; fd++)
        fcntl(fd, F_SETFD, 0);
    execve(argv[0], argv, envp);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int lis_tether_main(char *const argv[], bool inside) {
    sys_close_range(FIRST_FREE, ~0u, 0);
    for (int fd = TETHER; fd < FIRST_FREE; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (lis_forget_parent() < 0)
        return 1;
    pid_t holder = fork();
    if (holder != 0)
        return holder < 0;
    prctl(PR_SET_NAME, "lisrt-tether", 0, 0, 0);
    pid_t pid = fork();
    if (pid == 0)
        run_program(argv, inside);
    for (int fd = 0; fd < FIRST_FREE; fd++)
        if (fd != TETHER)
            close(fd);
    struct pollfd ends[] = {{.fd = TETHER, .events = POLLIN},
                            {.fd = pid < 0 ? -1 : sys_pidfd_open(pid), .events = POLLIN}};
    if (ends[1].fd < 0)
        return 1;
    while (!ends[0].revents && !ends[1].revents)
        if (LIS_RETRY(poll(ends, LIS_COUNT(ends), -1)) < 0)
            break;
    kill(pid, SIGKILL); /* our child, not yet waited for: nobody else has its number */
    LIS_RETRY(waitpid(pid, NULL, 0));
    return 0;
}
