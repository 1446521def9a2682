/* Children that a spawner has not started itself: what a process of bubblewrap's leaves behind when somebody kills it.
 *
 * Bubblewrap's inner process waits for a word from the outer one, on an eventfd that it holds open itself: with the outer one
 * killed at that moment it waits for ever. It is PID 1 of its namespace, so only a SIGKILL from outside ends it. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

static pid_t parent_of(int proc, const char *pid) {
    char path[32], stat[512];
    if (snprintf(path, sizeof path, "%s/stat", pid) >= (int)sizeof path)
        return 0;
    cleanup_fd int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : LIS_RETRY(read(fd, stat, sizeof stat - 1));
    if (got <= 0)
        return 0;
    stat[got] = 0;
    int parent = 0;
    const char *rest = strrchr(stat, ')'); /* the name before it may hold anything */
    return rest && sscanf(rest + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

void lis_kill_children(bool (*is_spared)(void *context, pid_t pid), void *context) {
    DIR *proc = opendir("/proc");
    if (!proc)
        return; /* tried again at the next death */
    for (struct dirent *entry; (entry = readdir(proc));) {
        pid_t pid = (pid_t)atoi(entry->d_name); /* 0 for what is no process */
        if (pid > 1 && parent_of(dirfd(proc), entry->d_name) == getpid() && !is_spared(context, pid))
            kill(pid, SIGKILL);
    }
    closedir(proc);
}
