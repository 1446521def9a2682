/* The watchdog: holds sandboxes to their memory where no control group does. One process for all of them, a child of the
 * spawner, so it has power over what they run (smaps) and nothing inside can reach it.
 *
 *   cheap look   sum of resident pages (statm), files in /dev/shm, memory files: too high a number, never too low
 *   exact look   near the limit only: proportional shares (smaps_rollup) of what was written, so that memory shared by
 *                forked processes counts once; page cache of files does not count, the kernel can take that back
 *
 * A sandbox is looked at again when it could have reached its limit at RATE on every CPU. One that runs nothing is not
 * looked at: PID 1 says in its account whether there are programs.
 *
 * Not seen, and said so in docs/security.md: memory files whose last descriptor waits in a socket or that are mapped but
 * not touched, detached System V segments (their sum is limited by kernel.shmall instead), and memory of the kernel itself:
 * pipes, sockets, page tables. */
#define _GNU_SOURCE
#include "lis.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "util.h"

#define MS 1000000u
#define TICK_NS (5 * MS)
#define LONGEST_NS (250 * MS)
#define SCAN_NS (1000 * MS)
#define OVERDUE_NS (5000 * (uint64_t)MS) /* PID 1 has been told, and nothing has become less: it goes, too */
#define RATE 1073741824u                 /* bytes a second that one CPU can touch, 4 KiB at a time */
#define NEAR(limit) ((limit) / 10 * 7)
#define MOST_INODES 1024

struct watched {
    char id[LIS_ID_SIZE];
    DIR *proc; /* the sandbox's own */
    int shm;   /* its /dev/shm */
    uint64_t due, next_scan, over_since;
    uint64_t memory_files, shmem_then; /* found by the last scan; all shared memory of this machine at that time */
    uint64_t exact, cheap_then;        /* the last exact look, and what the cheap one said then */
};

struct watchdog {
    struct lis_account_table *table;
    struct watched *watched;
    uint64_t page, rate, shmem;
    ino_t inodes[MOST_INODES];
    size_t ninodes;
};

struct shares {
    uint64_t anonymous, shared, shared_anonymous;
};

static ssize_t read_at(int dir, const char *path, char *buffer, size_t size) {
    cleanup_fd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : LIS_RETRY(read(fd, buffer, size - 1));
    buffer[got < 0 ? 0 : got] = 0;
    return got;
}

static uint64_t kib_after(const char *text, const char *name) {
    unsigned long kib = 0;
    const char *line = strstr(text, name);
    return line && sscanf(line + strlen(name), " %lu", &kib) == 1 ? (uint64_t)kib * 1024 : 0;
}

/* The next process of a sandbox but PID 1; 0 at the end. */
static pid_t next_process(DIR *proc) {
    for (struct dirent *entry; (entry = readdir(proc));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 1)
            return pid;
    }
    return 0;
}

static uint64_t used_by_files(int dir) {
    struct statfs fs;
    return dir >= 0 && fstatfs(dir, &fs) == 0 ? (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize : 0;
}

struct resident {
    uint64_t all, own,
        largest_own; /* of all processes; no file's; no file's, of one process: so much there is for sure */
};

static struct resident cheap_look(const struct watchdog *dog, const struct watched *w) {
    struct resident sum = {0, 0, 0};
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        char path[32], text[128];
        unsigned long size, resident, shared;
        snprintf(path, sizeof path, "%d/statm", pid);
        if (read_at(dirfd(w->proc), path, text, sizeof text) > 0 &&
            sscanf(text, "%lu %lu %lu", &size, &resident, &shared) == 3) {
            uint64_t own = (resident - shared) * dog->page;
            sum.all += resident * dog->page;
            sum.own += own;
            sum.largest_own = own > sum.largest_own ? own : sum.largest_own;
        }
    }
    return sum;
}

static bool is_new(struct watchdog *dog, ino_t inode) {
    for (size_t i = 0; i < dog->ninodes; i++)
        if (dog->inodes[i] == inode)
            return false;
    if (dog->ninodes < MOST_INODES)
        dog->inodes[dog->ninodes++] = inode;
    return true;
}

/* Only links are read until one names a memory file: a stat of another one may wait for a dead file server. */
static uint64_t memory_files_in(struct watchdog *dog, int proc, const char *path) {
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        lis_close(fd);
        return 0;
    }
    static const char prefix[] = "/memfd:";
    uint64_t total = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char target[sizeof prefix] = "";
        struct stat st;
        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof prefix - 1) < 0 || strcmp(target, prefix) != 0)
            continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && is_new(dog, st.st_ino))
            total += (uint64_t)st.st_blocks * 512;
    }
    closedir(dir);
    return total;
}

/* Threads can have descriptors of their own (clone without CLONE_FILES), so each is asked. */
static void scan_memory_files(struct watchdog *dog, struct watched *w, uint64_t now) {
    dog->ninodes = 0;
    w->memory_files = 0;
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        char path[64];
        snprintf(path, sizeof path, "%d/task", pid);
        int fd = openat(dirfd(w->proc), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
        if (!tasks) {
            lis_close(fd);
            continue;
        }
        for (struct dirent *entry; (entry = readdir(tasks));)
            if (entry->d_name[0] != '.') {
                snprintf(path, sizeof path, "%d/task/%.16s/fd", pid, entry->d_name);
                w->memory_files += memory_files_in(dog, dirfd(w->proc), path);
            }
        closedir(tasks);
    }
    w->shmem_then = dog->shmem;
    w->next_scan = now + SCAN_NS;
}

static struct shares add_up_shares(const struct watched *w, uint64_t page) {
    struct shares sum = {0, 0, 0};
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        char path[32], text[2048];
        snprintf(path, sizeof path, "%d/smaps_rollup", pid);
        if (read_at(dirfd(w->proc), path, text, sizeof text) > 0) {
            sum.anonymous += kib_after(text, "Pss_Anon:") + kib_after(text, "SwapPss:");
            sum.shared += kib_after(text, "Pss_Shmem:");
        } else { /* of a program that may be run but not read, or that has just ended: then both are 0 */
            unsigned long size, resident, file;
            snprintf(path, sizeof path, "%d/statm", pid);
            if (read_at(dirfd(w->proc), path, text, sizeof text) > 0 &&
                sscanf(text, "%lu %lu %lu", &size, &resident, &file) == 3)
                sum.anonymous += (resident - file) * page;
        }
    }
    return sum;
}

/* Of shared memory, that which has no name: everything else is in /dev/shm or is a memory file, and counted there. */
static uint64_t add_up_nameless(const struct watched *w) {
    uint64_t sum = 0;
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        char path[32], line[512];
        snprintf(path, sizeof path, "%d/smaps", pid);
        int fd = openat(dirfd(w->proc), path, O_RDONLY | O_CLOEXEC);
        FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
        if (!file) {
            lis_close(fd);
            continue;
        }
        for (bool nameless = false; fgets(line, sizeof line, file);) {
            if (strchr("0123456789abcdef", line[0])) /* a mapping begins: its fields' names have capitals */
                nameless = strstr(line, " /dev/zero (deleted)") || strstr(line, " /SYSV");
            else if (nameless && strncmp(line, "Pss:", 4) == 0)
                sum += kib_after(line, "Pss:");
        }
        fclose(file);
    }
    return sum;
}

static uint64_t exact_look(struct watchdog *dog, struct watched *w, uint64_t limit, uint64_t now) {
    scan_memory_files(dog, w, now);
    uint64_t files = w->memory_files + used_by_files(w->shm);
    struct shares sum = add_up_shares(w, dog->page);
    uint64_t least = sum.anonymous + (sum.shared > files ? sum.shared : files);
    /* what is shared may be the files, mapped, or memory besides them: only when it matters is it worth finding out */
    if (least > limit || sum.anonymous + sum.shared + files <= limit)
        return least;
    return sum.anonymous + add_up_nameless(w) + files;
}

static void forget(struct watched *w) {
    if (w->proc) {
        closedir(w->proc);
        lis_close(w->shm);
    }
    *w = (struct watched){.shm = -EBADF};
}

/* What PIDs 1 have sent: sandboxes to look at from now on. */
static void take_offers(struct watchdog *dog, int offers) {
    struct lis_offer_message message;
    int fds[LIS_MAX_FDS], nfds = 0;
    while (lis_receive(offers, MSG_DONTWAIT, &message, sizeof message, fds, &nfds) == (ssize_t)sizeof message) {
        DIR *proc = nfds == 2 && message.number < LIS_MAX_ACCOUNTS ? fdopendir(fds[0]) : NULL;
        if (!proc) {
            for (int i = 0; i < nfds; i++)
                close(fds[i]);
            continue;
        }
        struct watched *w = &dog->watched[message.number];
        forget(w);
        w->proc = proc;
        w->shm = fds[1];
        memcpy(w->id, message.id, LIS_ID_SIZE);
    }
}

/* Told again while it lasts. PID 1 kills what is in the sandbox; when that does not help, PID 1 goes. */
static void report(struct watched *w, struct lis_account *account, uint64_t now) {
    int32_t pid = LIS_LOAD(account->pid);
    LIS_STORE(account->memory_over, account->memory_over + 1);
    if (pid > 1)
        kill(pid, LIS_SIGNAL_LOOK);
    if (!w->over_since)
        w->over_since = now;
    else if (now - w->over_since > OVERDUE_NS && pid > 1)
        kill(pid, SIGKILL);
    w->due = now + 4 * (uint64_t)TICK_NS;
}

/* Bytes that the sandbox uses, as exactly as the limit wants it. */
static uint64_t measure(struct watchdog *dog, struct watched *w, uint64_t limit, uint64_t now) {
    struct resident cheap = cheap_look(dog, w);
    uint64_t files = used_by_files(w->shm) + w->memory_files;
    uint64_t most = cheap.all + files;
    if (cheap.largest_own > limit || most <= NEAR(limit))
        return cheap.own + files;
    /* pages that came since the last exact look are all counted as its own */
    uint64_t since = most > w->cheap_then ? most - w->cheap_then : 0;
    if (w->exact && w->exact + since <= NEAR(limit))
        return w->exact + since;
    w->exact = exact_look(dog, w, limit, now);
    w->cheap_then = most;
    return w->exact;
}

static void look(struct watchdog *dog, struct watched *w, struct lis_account *account, uint64_t now) {
    const uint64_t limit = account->memory_limit;
    /* anybody's shared memory, perhaps; but it may be this sandbox's memory files */
    uint64_t grown = dog->shmem > w->shmem_then ? dog->shmem - w->shmem_then : 0;
    if (now >= w->next_scan || grown > limit / 20) {
        scan_memory_files(dog, w, now);
        grown = 0;
    }
    uint64_t usage = measure(dog, w, limit, now);
    LIS_STORE(account->memory, usage);
    if (usage > LIS_LOAD(account->memory_peak))
        LIS_STORE(account->memory_peak, usage);
    if (usage > limit)
        return report(w, account, now);
    w->over_since = 0;
    uint64_t room = limit - usage > grown ? limit - usage - grown : 0;
    uint64_t until_full = room * 1000 / (dog->rate / 1000000); /* ns */
    w->due = now + (until_full / 2 < LONGEST_NS ? until_full / 2 : LONGEST_NS);
}

static void read_shmem(struct watchdog *dog) {
    char text[4096];
    read_at(AT_FDCWD, "/proc/meminfo", text, sizeof text);
    dog->shmem = kib_after(text, "\nShmem:");
}

static void sweep(struct watchdog *dog) {
    bool have_shmem = false;
    uint32_t used = LIS_LOAD(dog->table->used);
    for (uint32_t i = 0; i < used; i++) {
        struct lis_account *account = &dog->table->at[i];
        struct watched *w = &dog->watched[i];
        if (w->proc && memcmp(w->id, account->id, LIS_ID_SIZE) != 0)
            forget(w);
        if (!w->proc || !LIS_LOAD(account->pid) || !LIS_LOAD(account->busy))
            continue;
        uint64_t now = lis_now_ns();
        if (now < w->due)
            continue;
        if (!have_shmem)
            read_shmem(dog);
        have_shmem = true;
        look(dog, w, account, now);
    }
}

/* One that takes another's place finds sandboxes already there. */
static void ask_for_offers(struct lis_account_table *table) {
    for (uint32_t i = 0; i < LIS_LOAD(table->used); i++) {
        int32_t pid = LIS_LOAD(table->at[i].pid);
        if (pid > 1 && table->at[i].memory_limit)
            kill(pid, LIS_SIGNAL_OFFER);
    }
}

static uint64_t cpu_time_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

void lis_watch_memory(struct lis_account_table *table, int offers) {
    cpu_set_t cpus;
    struct watchdog dog = {.table = table, .page = (uint64_t)sysconf(_SC_PAGESIZE)};
    int ncpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    dog.rate = RATE * (uint64_t)ncpus;
    dog.watched = calloc(LIS_MAX_ACCOUNTS, sizeof *dog.watched);
    if (!dog.watched)
        _exit(1);
    ask_for_offers(table);
    for (;;) {
        uint64_t start = cpu_time_ns();
        take_offers(&dog, offers);
        sweep(&dog);
        /* Whatever there is to watch, at most a fifth of one CPU goes into it. Not of the clock's time: on a busy machine
         * most of that is waiting for a CPU, and the busier it is, the more this is needed. */
        uint64_t took = cpu_time_ns() - start;
        uint64_t pause = 4 * took > TICK_NS ? 4 * took : TICK_NS;
        nanosleep(&(struct timespec){(time_t)(pause / 1000000000u), (long)(pause % 1000000000u)}, NULL);
    }
}
