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
#include "inside.h"
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
    *ret_base = (struct lis_tag_base){up, down, files.rlim_cur, files.rlim_max, 0};
    return 0;
}

int lis_tag_set(const struct lis_tag_base *base, uint32_t tag) {
    struct rlimit rss = {base->up + tag, base->up + tag}, locks = {base->down - tag, base->down - tag};
    struct rlimit files = {base->soft_files, base->hard_files};
    if (setrlimit(RLIMIT_RSS, &rss) < 0 || setrlimit(RLIMIT_LOCKS, &locks) < 0)
        return -errno;
    if (base->pids && setrlimit(RLIMIT_NPROC, &(struct rlimit){base->pids, base->pids}) < 0)
        return -errno;
    return base->hard_files && setrlimit(RLIMIT_NOFILE, &files) < 0 ? -errno : 0;
}

struct bounds {
    uint64_t low, high; /* of its tag; what is no command's has none between them */
};

static int read_bounds(const struct lis_tag_base *base, pid_t pid, struct bounds *ret) {
    struct rlimit rss, locks;
    if (prlimit(pid, RLIMIT_RSS, NULL, &rss) < 0 || prlimit(pid, RLIMIT_LOCKS, NULL, &locks) < 0)
        return -errno; /* gone between the listing and now */
    ret->low = rss.rlim_max > base->up ? rss.rlim_max - base->up : 0;
    ret->high = locks.rlim_max < base->down ? base->down - locks.rlim_max : 0;
    return 0;
}

static bool is_member(const struct lis_tag_base *base, pid_t pid, uint32_t tag) {
    struct bounds its;
    return read_bounds(base, pid, &its) == 0 && its.low <= tag && tag <= its.high;
}

static bool is_program(const struct lis_tag_base *base, pid_t pid) {
    struct bounds its;
    return read_bounds(base, pid, &its) == 0 && its.low <= its.high;
}

struct stat_line {
    char state;
    long threads;
};

/* -ESRCH for one that is gone. */
static int read_stat(int proc, pid_t pid, struct stat_line *ret) {
    char path[32], stat[512];
    snprintf(path, sizeof path, "%d/stat", pid);
    cleanup_fd int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : LIS_RETRY(read(fd, stat, sizeof stat - 1));
    if (got <= 0)
        return -ESRCH;
    stat[got] = 0;
    const char *rest = strrchr(stat, ')'); /* the name before it may hold anything */
    if (!rest ||
        sscanf(rest + 1, " %c%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s%*s %ld", &ret->state, &ret->threads) != 2)
        return -EPROTO;
    return 0;
}

/* A process whose first thread has ended is a zombie with living threads: dead is only one that has no other left. */
static bool is_dead(int proc, pid_t pid) {
    struct stat_line line;
    int r = read_stat(proc, pid, &line);
    return r == -ESRCH || (r == 0 && (line.state == 'Z' || line.state == 'X') && line.threads <= 1);
}

struct pids {
    pid_t *at;
    size_t count, capacity;
};

static int list_pids(DIR *dir, struct pids *ret_pids) {
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t pid = (pid_t)atoi(entry->d_name); /* 0 for what is no process */
        if (pid <= 1)
            continue;
        if (ret_pids->count == ret_pids->capacity) {
            size_t capacity = ret_pids->capacity ? ret_pids->capacity * 2 : 256;
            pid_t *more = realloc(ret_pids->at, capacity * sizeof *more);
            if (!more)
                return -ENOMEM;
            ret_pids->at = more;
            ret_pids->capacity = capacity;
        }
        ret_pids->at[ret_pids->count++] = pid;
    }
    return 0;
}

static int sweep(int proc, const struct lis_tag_base *base, uint32_t tag, bool freeze) {
    int listing = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listing < 0 ? NULL : fdopendir(listing);
    if (!dir) {
        lis_close(listing);
        return -errno;
    }
    if (freeze)
        kill(-1, SIGSTOP); /* all but this process; atomic with fork: nobody is born behind our back */
    struct pids pids = {0};
    int r = list_pids(dir, &pids);
    closedir(dir);
    int living = 0;
    for (size_t i = 0; i < pids.count; i++)
        if (is_member(base, pids.at[i], tag)) {
            /* Asked before the kill: whoever lived until now may have had a child since the listing, for the next pass.
             * A killed process can't fork any more, so each pass leaves only what was born during it. */
            living += !is_dead(proc, pids.at[i]);
            kill(pids.at[i], SIGKILL);
            pids.at[i] = 0;
        }
    if (freeze && r < 0)
        kill(-1, SIGCONT);
    /* the youngest first, so that a parent that waits does not see its child stopped */
    for (size_t i = pids.count; freeze && r == 0 && i-- > 0;)
        if (pids.at[i])
            kill(pids.at[i], SIGCONT);
    free(pids.at);
    return r < 0 ? r : living;
}

int lis_tree_kill(int proc, const struct lis_tag_base *base, uint32_t tag) {
    return sweep(proc, base, tag, false);
}

int lis_tree_kill_frozen(int proc, const struct lis_tag_base *base, uint32_t tag) {
    return sweep(proc, base, tag, true);
}

uint64_t lis_tree_tasks(int proc) {
    int listing = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listing < 0 ? NULL : fdopendir(listing);
    if (!dir) {
        lis_close(listing);
        return 0;
    }
    struct pids pids = {0};
    uint64_t tasks = list_pids(dir, &pids) < 0 ? 0 : 1;
    closedir(dir);
    for (size_t i = 0; i < pids.count; i++) {
        struct stat_line line;
        if (read_stat(proc, pids.at[i], &line) == 0)
            tasks += (uint64_t)line.threads;
    }
    free(pids.at);
    return tasks;
}

int lis_tree_stop(int proc, const struct lis_tag_base *base) {
    int listing = openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listing < 0 ? NULL : fdopendir(listing);
    if (!dir) {
        lis_close(listing);
        return -errno;
    }
    /* all but this process, and atomic with fork. By signal, wherever there are control groups: PID 1 must not be frozen, and
     * to have it in another group than the rest would cost each creation a group more */
    kill(-1, SIGSTOP);
    struct pids pids = {0};
    int r = list_pids(dir, &pids), programs = 0;
    closedir(dir);
    if (r < 0)
        kill(-1, SIGCONT);
    for (size_t i = 0; i < pids.count && r == 0; i++)
        if (is_program(base, pids.at[i]))
            programs += !is_dead(proc, pids.at[i]);
        else
            kill(pids.at[i], SIGCONT); /* a file server that was about to exit */
    free(pids.at);
    return r < 0 ? r : programs;
}
