/* How the whole tree of one command is found and killed, with no cgroup, while other commands of the sandbox go on.
 *
 * A descendant may leave its session, its process group and, by forking twice, its parent. What it can't leave are its
 * hard resource limits: children inherit them and without CAP_SYS_RESOURCE they only ever fall. Two limits that no
 * kernel since 2.4.30 enforces, RSS and LOCKS, carry the number of the command:
 *
 *     hard RSS   = up + tag      lowering it claims an older command
 *     hard LOCKS = down - tag    lowering it claims a newer one
 *
 * A process that has touched neither names its tag twice. One that has lowered either still bounds its tag from both
 * sides, low <= tag <= high, so a kill that takes everything in these bounds never misses a member; at worst it takes
 * a process that tampered, whichever command of the same sandbox had started it.
 *
 * Both are read with prlimit(2), which asks for nothing but the same ids: no ptrace rights, no dumpable process. */
#define _GNU_SOURCE
#include "lis.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "util.h"

#define TAGS ((uint64_t)1 << 32)
#define HIGHEST ((uint64_t)1 << 62) /* below RLIM_INFINITY, which marks what is no command's */

static uint64_t at_most(uint64_t value, uint64_t limit) {
    return value < limit ? value : limit;
}

int lis_tag_base(struct lis_tag_base *ret_base) {
    struct rlimit rss, locks, files;
    if (getrlimit(RLIMIT_RSS, &rss) < 0 || getrlimit(RLIMIT_LOCKS, &locks) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
        return -errno;
    uint64_t up = at_most(rss.rlim_max, HIGHEST) / 2, down = at_most(locks.rlim_max, HIGHEST);
    if (up < TAGS || down < TAGS)
        return -ERANGE; /* the host has limited one of the two to under 8 GiB, and there is no room for the numbers */
    *ret_base = (struct lis_tag_base){up, down, files.rlim_cur, files.rlim_max};
    return 0;
}

int lis_tag_set(const struct lis_tag_base *base, uint32_t tag) {
    struct rlimit rss = {base->up + tag, base->up + tag}, locks = {base->down - tag, base->down - tag};
    struct rlimit files = {base->soft_files, base->hard_files};
    if (setrlimit(RLIMIT_RSS, &rss) < 0 || setrlimit(RLIMIT_LOCKS, &locks) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
        return -errno;
    return 0;
}

static bool is_member(const struct lis_tag_base *base, pid_t pid, uint32_t tag) {
    struct rlimit rss, locks;
    if (prlimit(pid, RLIMIT_RSS, NULL, &rss) < 0 || prlimit(pid, RLIMIT_LOCKS, NULL, &locks) < 0)
        return false; /* gone between the listing and now */
    uint64_t low = rss.rlim_max > base->up ? rss.rlim_max - base->up : 0;
    uint64_t high = locks.rlim_max < base->down ? base->down - locks.rlim_max : 0;
    return low <= tag && tag <= high;
}

/* A process whose first thread has ended is a zombie with living threads: dead is only one that has no other left. */
static bool is_dead(int proc, const char *pid) {
    char path[32], stat[512];
    snprintf(path, sizeof path, "%.20s/stat", pid);
    cleanup_fd int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    ssize_t got = LIS_RETRY(read(fd, stat, sizeof stat - 1));
    if (got <= 0)
        return true;
    stat[got] = 0;
    char state;
    long threads;
    const char *rest = strrchr(stat, ')'); /* the name before it may hold anything */
    if (!rest || sscanf(rest + 1, " %c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s %ld", &state, &threads) != 2)
        return false;
    return (state == 'Z' || state == 'X') && threads <= 1;
}

static int sweep(int proc, const struct lis_tag_base *base, uint32_t tag, bool thaw) {
    int listing = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing < 0)
        return -errno;
    DIR *dir = fdopendir(listing);
    if (!dir) {
        lis_close(listing);
        return -errno;
    }
    int living = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t pid = (pid_t)atoi(entry->d_name); /* 0 for what is no process */
        if (pid <= 1)
            continue;
        if (is_member(base, pid, tag)) {
            /* A killed process can't fork any more, so each pass leaves only what was born during it. */
            kill(pid, SIGKILL);
            living += !is_dead(proc, entry->d_name);
        } else if (thaw) {
            kill(pid, SIGCONT);
        }
    }
    closedir(dir);
    return living;
}

int lis_tree_kill(int proc, const struct lis_tag_base *base, uint32_t tag) {
    return sweep(proc, base, tag, false);
}

int lis_tree_kill_frozen(int proc, const struct lis_tag_base *base, uint32_t tag) {
    kill(-1, SIGSTOP); /* all but this process; atomic with fork: nobody is born behind our back */
    return sweep(proc, base, tag, true);
}
