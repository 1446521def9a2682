/* Helper mode `run`: one program of the host, run to its end for a Python that must not fork and whose children are its own
 * affair. What runs it leaves the family at once, and answers with the wait status. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

/* The numbers under which Python hands its descriptors over. The program gets its own 0, 1 and 2, and on 3 this helper. */
enum { STATUS = 3, STDOUT = 4, STDERR = 5, FIRST_FREE = 6, HELPER = 3 };

#define MOST_SECONDS 30

static void run_program(char *const argv[]) __attribute__((noreturn));
static void run_program(char *const argv[]) {
    char *const envp[] = {NULL};
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), helper = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (null < 0 || helper < 0 || dup2(null, 0) < 0 || dup2(STDOUT, 1) < 0 || dup2(STDERR, 2) < 0 ||
        dup2(helper, HELPER) < 0)
        _exit(127);
    sys_close_range(HELPER + 1, ~0u, 0);
    execve(argv[0], argv, envp);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int lis_run_main(char *const argv[]) {
    for (int fd; (fd = open("/dev/null", O_RDWR)) >= 0 && fd < STATUS;)
        ; /* standard streams that were closed: what is opened later must not get their numbers */
    sys_close_range(FIRST_FREE, ~0u, 0);
    if (lis_forget_parent() < 0)
        return 1;
    pid_t runner = fork();
    if (runner != 0)
        return runner < 0;
    alarm(MOST_SECONDS); /* this ends with it, without an answer, and the program too */
    pid_t pid = fork();
    if (pid == 0)
        run_program(argv);
    int status;
    if (pid < 0 || LIS_RETRY(waitpid(pid, &status, 0)) < 0)
        return 1;
    return write(STATUS, &status, sizeof status) != (ssize_t)sizeof status;
}
