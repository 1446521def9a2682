/* The watchdog: holds sandboxes to their memory where no control group does. One process for all of them, a child of the
 * spawner, so it has power over what they run (smaps) and nothing inside can reach it.
 *
 *   cheap look   sum of resident pages (statm), files in /dev/shm, memory files
 *   exact look   where that is near the limit: proportional shares (smaps_rollup) of what was written, so that memory shared
 *                by forked processes counts once; page cache of files does not count, the kernel can take that back
 *
 * Near the limit every look is an exact one: a page that a process copies on write changes nothing that is cheap to see.
 *
 * A sandbox is looked at again when it could have reached its limit at RATE on every CPU. One that runs nothing is not
 * looked at: PID 1 says in its account whether there are programs. One that is dear to look at (a thousand processes, a
 * hundred thousand descriptors) gets a process of its own for each look, so that it makes nobody else wait; what can't be
 * counted in time counts as too much.
 *
 * Not seen, and said so in docs/security.md: shared memory that is neither mapped in nor open (a descriptor that waits in a
 * socket; pages given back by madvise), detached System V segments (their sum is limited by kernel.shmall instead), and
 * memory of the kernel itself: pipes, sockets, page tables. */
#define _GNU_SOURCE
#include "lis.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "util.h"

#define MS 1000000u
#define TICK_NS (5 * MS)
#define LONGEST_NS (250 * MS)
#define SCAN_NS (1000 * (uint64_t)MS)
#define DEAR_NS (5 * MS) /* a look that took this much CPU time is done in a process of its own */
/* PID 1 has been told, and nothing has become less: it goes, too. As long as PID 1 itself waits for a killed process: on an
 * emulated machine of two CPUs 5 s were not enough for 100 MiB to be given back. */
#define OVERDUE_NS (20000 * (uint64_t)MS)
#define RATE 1073741824u /* bytes a second that one CPU can touch, 4 KiB at a time */
#define NEAR(limit) ((limit) / 10 * 7)
#define MOST_LINKS 500000 /* descriptors read in one scan */
#define MOST_OFFERS 64    /* taken between two sweeps */
#define MOST_LOOKERS 16
#define MOST_DOUBTS 20 /* looks, one right after the other */
#define TOO_MUCH (UINT64_MAX / 4)

/* In memory that is shared with processes for single looks. */
struct watched {
    char id[LIS_ID_SIZE];
    DIR *proc; /* the sandbox's own */
    int shm;   /* its /dev/shm */
    pid_t looker;
    uint64_t due, next_scan, asked, over_since, confirm;
    uint64_t memory_files, shmem_then; /* found by the last scan; all shared memory of this machine at that time */
    uint64_t cost;                     /* CPU time of the last look */
};

struct set {
    ino_t *at;
    size_t count, capacity; /* of 2; 0 is no inode's number */
};

struct watchdog {
    struct lis_account_table *table;
    struct watched *watched;
    uint64_t page, rate, shmem, links;
    bool has_swap;
    int lookers;
    struct set inodes;
};

struct shares {
    uint64_t anonymous, shared;
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

struct statm {
    uint64_t size, resident, shared; /* pages */
};

/* `name`: "PID", or "PID/task/TID" where the first thread has ended: that one shows no memory, though the others have it. */
static bool read_statm(int proc, pid_t pid, char name[40], struct statm *ret) {
    char path[64], text[128];
    snprintf(name, 40, "%d", pid);
    snprintf(path, sizeof path, "%d/statm", pid);
    if (read_at(proc, path, text, sizeof text) <= 0 ||
        sscanf(text, "%lu %lu %lu", &ret->size, &ret->resident, &ret->shared) != 3)
        return false;
    if (ret->size)
        return true;
    snprintf(path, sizeof path, "%d/task", pid);
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
    if (!tasks) {
        lis_close(fd);
        return false;
    }
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(tasks));) {
        if (atoi(entry->d_name) == pid || entry->d_name[0] == '.')
            continue;
        snprintf(name, 40, "%d/task/%.12s", pid, entry->d_name);
        snprintf(path, sizeof path, "%s/statm", name);
        found = read_at(proc, path, text, sizeof text) > 0 &&
                sscanf(text, "%lu %lu %lu", &ret->size, &ret->resident, &ret->shared) == 3 && ret->size;
    }
    closedir(tasks);
    return found;
}

struct resident {
    uint64_t all, own,
        largest_own; /* of all processes; no file's; no file's, of one process: so much there is for sure */
};

static struct resident cheap_look(const struct watchdog *dog, const struct watched *w) {
    struct resident sum = {0, 0, 0};
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        char name[40];
        struct statm statm;
        if (read_statm(dirfd(w->proc), pid, name, &statm)) {
            uint64_t own = (statm.resident - statm.shared) * dog->page;
            sum.all += statm.resident * dog->page;
            sum.own += own;
            sum.largest_own = own > sum.largest_own ? own : sum.largest_own;
        }
    }
    return sum;
}

/* false: it was there already. Without memory for more, everything is new, and counts. */
static bool add_inode(struct set *set, ino_t inode) {
    if (2 * (set->count + 1) > set->capacity) {
        struct set larger = {.capacity = set->capacity ? 2 * set->capacity : 256};
        larger.at = calloc(larger.capacity, sizeof *larger.at);
        if (!larger.at)
            return true;
        for (size_t i = 0; i < set->capacity; i++)
            if (set->at[i])
                add_inode(&larger, set->at[i]);
        free(set->at);
        *set = larger;
    }
    size_t slot = (size_t)(inode * 0x9e3779b97f4a7c15u) & (set->capacity - 1);
    while (set->at[slot] && set->at[slot] != inode)
        slot = (slot + 1) & (set->capacity - 1);
    if (set->at[slot])
        return false;
    set->at[slot] = inode;
    set->count++;
    return true;
}

static void clear_inodes(struct set *set) {
    if (set->at)
        memset(set->at, 0, set->capacity * sizeof *set->at);
    set->count = 0;
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
    for (struct dirent *entry; dog->links < MOST_LINKS && (entry = readdir(dir)); dog->links++) {
        char target[sizeof prefix] = "";
        struct stat st;
        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof prefix - 1) < 0 || strcmp(target, prefix) != 0)
            continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && add_inode(&dog->inodes, st.st_ino))
            total += (uint64_t)st.st_blocks * 512;
    }
    closedir(dir);
    return total;
}

/* One thread of each process speaks for all: the filter lets none have descriptors of its own (seccomp.c). */
static void scan_memory_files(struct watchdog *dog, struct watched *w, uint64_t now) {
    clear_inodes(&dog->inodes);
    dog->links = 0;
    w->memory_files = 0;
    rewinddir(w->proc);
    for (pid_t pid; dog->links < MOST_LINKS && (pid = next_process(w->proc));) {
        char name[40], path[48];
        struct statm statm;
        if (!read_statm(dirfd(w->proc), pid, name, &statm))
            continue;
        snprintf(path, sizeof path, "%s/fd", name);
        w->memory_files += memory_files_in(dog, dirfd(w->proc), path);
    }
    if (dog->links >= MOST_LINKS)
        w->memory_files = TOO_MUCH;
    w->shmem_then = dog->shmem;
    w->next_scan = now + SCAN_NS;
}

/* A process that waits for its vfork has one child with the very same memory, which must not count twice. Of those that have
 * not executed anything yet, the first of the same size is taken for it. */
#define FORKED_ONLY 0x40u /* PF_FORKNOEXEC */

struct one {
    pid_t pid, parent;
    char state;
    unsigned flags;
    struct statm statm;
    char name[40];
    bool has_twin;
};

static bool read_one(int proc, pid_t pid, struct one *ret) {
    char path[32], text[512];
    snprintf(path, sizeof path, "%d/stat", pid);
    if (read_at(proc, path, text, sizeof text) <= 0 || !read_statm(proc, pid, ret->name, &ret->statm))
        return false;
    const char *rest = strrchr(text, ')');
    ret->pid = pid;
    ret->has_twin = false;
    return rest && sscanf(rest + 1, " %c %d %*d %*d %*d %*d %u", &ret->state, &ret->parent, &ret->flags) == 3;
}

static struct one *find_one(struct one *all, size_t count, pid_t pid) {
    for (size_t i = 0; i < count; i++)
        if (all[i].pid == pid)
            return &all[i];
    return NULL;
}

static bool is_twin(struct one *all, size_t count, const struct one *child) {
    struct one *parent = child->flags & FORKED_ONLY ? find_one(all, count, child->parent) : NULL;
    if (!parent || parent->state != 'D' || parent->has_twin ||
        memcmp(&parent->statm, &child->statm, sizeof child->statm) != 0)
        return false;
    return parent->has_twin = true;
}

static size_t list_all(const struct watched *w, struct one **ret_all) {
    struct one *all = NULL;
    size_t count = 0, capacity = 0;
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        if (count == capacity) {
            size_t more = capacity ? 2 * capacity : 32;
            struct one *larger = realloc(all, more * sizeof *all);
            if (!larger)
                break;
            all = larger;
            capacity = more;
        }
        count += read_one(dirfd(w->proc), pid, &all[count]);
    }
    *ret_all = all;
    return count;
}

static struct shares add_up_shares(const struct watched *w, struct one *all, size_t count, uint64_t page) {
    struct shares sum = {0, 0};
    for (size_t i = 0; i < count; i++) {
        char path[64], text[2048];
        if (is_twin(all, count, &all[i]))
            continue;
        snprintf(path, sizeof path, "%s/smaps_rollup", all[i].name);
        if (read_at(dirfd(w->proc), path, text, sizeof text) > 0) {
            sum.anonymous += kib_after(text, "Pss_Anon:") + kib_after(text, "SwapPss:");
            sum.shared += kib_after(text, "Pss_Shmem:");
        } else { /* of a program that may be run but not read, or that has just ended */
            sum.anonymous += (all[i].statm.resident - all[i].statm.shared) * page;
        }
    }
    return sum;
}

/* Of shared memory, that which has no name: everything else is in /dev/shm or is a memory file, and counted there. */
static uint64_t add_up_nameless(const struct watched *w) {
    uint64_t sum = 0;
    rewinddir(w->proc);
    for (pid_t pid; (pid = next_process(w->proc));) {
        char name[40], path[64], line[512];
        struct statm statm;
        if (!read_statm(dirfd(w->proc), pid, name, &statm))
            continue;
        snprintf(path, sizeof path, "%s/smaps", name);
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

/* What a process lets go of while shares are added up falls to others that are looked at later, and so counts twice: when
 * twelve that share 60 MiB end together, they seem to have up to 186. So much less it may be. */
static uint64_t doubt(const struct watched *w, const struct one *all, size_t count, uint64_t page) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        char name[40];
        struct statm after = {0};
        if (!read_statm(dirfd(w->proc), all[i].pid, name, &after))
            after.resident = 0;
        if (after.resident < all[i].statm.resident)
            sum += (all[i].statm.resident - after.resident) * page;
    }
    return sum;
}

static uint64_t exact_look(struct watchdog *dog, struct watched *w, uint64_t limit, uint64_t now, uint64_t *ret_doubt) {
    scan_memory_files(dog, w, now);
    if (w->memory_files >= TOO_MUCH)
        return TOO_MUCH;
    uint64_t files = w->memory_files + used_by_files(w->shm);
    cleanup_free struct one *all = NULL;
    size_t count = list_all(w, &all);
    struct shares sum = add_up_shares(w, all, count, dog->page);
    uint64_t usage = sum.anonymous + (sum.shared > files ? sum.shared : files);
    /* what is shared may be the files, mapped, or memory besides them: only when it matters is it worth finding out */
    if (usage <= limit && sum.anonymous + sum.shared + files > limit)
        usage = sum.anonymous + add_up_nameless(w) + files;
    if (usage > limit)
        *ret_doubt = doubt(w, all, count, dog->page);
    return usage;
}

static void forget(struct watched *w) {
    if (w->proc) {
        closedir(w->proc);
        lis_close(w->shm);
    }
    *w = (struct watched){.shm = -EBADF, .looker = w->looker};
}

/* What PIDs 1 have sent: sandboxes to look at from now on. */
static void take_offers(struct watchdog *dog, int offers) {
    struct lis_offer_message message;
    int fds[LIS_MAX_FDS];
    for (int i = 0; i < MOST_OFFERS; i++) {
        int nfds = 0;
        ssize_t size = lis_receive(offers, MSG_DONTWAIT, &message, sizeof message, fds, &nfds);
        if (size == -EAGAIN || size == 0)
            return;
        /* what is no offer, or could not be taken for want of descriptors, is asked for again by sweep() */
        bool whole = size == (ssize_t)sizeof message && nfds == 2 && message.number < LIS_MAX_ACCOUNTS;
        DIR *proc = whole ? fdopendir(fds[0]) : NULL;
        struct watched *w = proc ? &dog->watched[message.number] : NULL;
        if (!w || w->looker) {
            if (proc)
                closedir(proc);
            for (int f = proc ? 1 : 0; f < nfds; f++)
                close(fds[f]);
            continue;
        }
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

/* Bytes that the sandbox uses, as exactly as the limit wants it. *ret_sure: no second look could say otherwise. *ret_doubt:
 * so much less it may be. */
static uint64_t measure(struct watchdog *dog, struct watched *w, uint64_t limit, uint64_t now, bool *ret_sure,
                        uint64_t *ret_doubt) {
    bool second = now >= w->next_scan;
    /* anybody's shared memory, perhaps; but it may be this sandbox's memory files */
    bool scan = second || (dog->shmem > w->shmem_then && dog->shmem - w->shmem_then > limit / 20);
    /* nobody is killed for what the last scan has found: its owner may be dead */
    if (scan || w->memory_files > NEAR(limit) / 2)
        scan_memory_files(dog, w, now);
    struct resident cheap = cheap_look(dog, w);
    uint64_t files = used_by_files(w->shm) + w->memory_files;
    *ret_sure = cheap.largest_own > limit || files > limit;
    if (*ret_sure || (cheap.all + files <= NEAR(limit) && !(second && dog->has_swap)))
        return cheap.own + files;
    return exact_look(dog, w, limit, now, ret_doubt);
}

static void look(struct watchdog *dog, struct watched *w, struct lis_account *account, uint64_t now) {
    const uint64_t limit = account->memory_limit;
    bool sure;
    uint64_t unsure = 0, usage = measure(dog, w, limit, now, &sure, &unsure);
    uint64_t least = usage > unsure ? usage - unsure : 0;
    /* What was added up while programs forked and ended can be too much: it has to be so twice. One that makes every look
     * doubtful does not get away with it. */
    bool over =
        usage > limit && (sure || least > 2 * limit || (least > limit && w->confirm) || w->confirm >= MOST_DOUBTS);
    if (usage > limit && !over) {
        w->confirm++;
        w->due = now;
        return;
    }
    w->confirm = 0;
    LIS_STORE(account->memory, usage);
    if (usage > LIS_LOAD(account->memory_peak) && usage < TOO_MUCH)
        LIS_STORE(account->memory_peak, usage);
    if (over)
        return report(w, account, now);
    w->over_since = 0;
    uint64_t grown = dog->shmem > w->shmem_then ? dog->shmem - w->shmem_then : 0;
    uint64_t room = limit - usage > grown ? limit - usage - grown : 0;
    uint64_t until_full = room * 1000 / (dog->rate / 1000000); /* ns */
    w->due = now + (until_full / 2 < LONGEST_NS ? until_full / 2 : LONGEST_NS);
}

static uint64_t cpu_time_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* Whatever a sandbox is like, looking at it takes a fifth of one CPU at most. Not of the clock's time: on a busy machine most
 * of that is waiting for a CPU, and the busier it is, the more this is needed. */
static void look_and_pay(struct watchdog *dog, struct watched *w, struct lis_account *account) {
    uint64_t start = cpu_time_ns();
    look(dog, w, account, lis_now_ns());
    w->cost = cpu_time_ns() - start;
    uint64_t paid = lis_now_ns() + (w->confirm ? w->cost : 4 * w->cost);
    w->due = w->due > paid ? w->due : paid;
}

static void send_looker(struct watchdog *dog, struct watched *w, struct lis_account *account) {
    pid_t pid = fork();
    if (pid == 0) {
        look_and_pay(dog, w, account);
        _exit(0);
    }
    if (pid > 0) {
        w->looker = pid;
        dog->lookers++;
    }
}

static void await_lookers(struct watchdog *dog, uint32_t used) {
    for (pid_t pid; dog->lookers > 0 && (pid = waitpid(-1, NULL, WNOHANG)) > 0; dog->lookers--)
        for (uint32_t i = 0; i < used; i++)
            if (dog->watched[i].looker == pid)
                dog->watched[i].looker = 0;
}

static void read_machine(struct watchdog *dog) {
    char text[4096];
    read_at(AT_FDCWD, "/proc/meminfo", text, sizeof text);
    dog->shmem = kib_after(text, "\nShmem:");
    dog->has_swap = kib_after(text, "\nSwapTotal:") > 0;
}

/* One that takes another's place finds sandboxes already there, and an offer can be lost. */
static void ask_for_offer(struct watched *w, struct lis_account *account, uint64_t now) {
    int32_t pid = LIS_LOAD(account->pid);
    if (pid > 1 && now > w->asked + SCAN_NS) {
        w->asked = now;
        kill(pid, LIS_SIGNAL_OFFER);
    }
}

static void sweep(struct watchdog *dog) {
    bool have_read = false;
    uint32_t used = LIS_LOAD(dog->table->used);
    await_lookers(dog, used);
    for (uint32_t i = 0; i < used; i++) {
        struct lis_account *account = &dog->table->at[i];
        struct watched *w = &dog->watched[i];
        if (w->looker)
            continue;
        if (w->proc && memcmp(w->id, account->id, LIS_ID_SIZE) != 0)
            forget(w);
        if (!LIS_LOAD(account->pid) || !account->memory_limit)
            continue;
        if (!LIS_LOAD(account->busy)) { /* what comes next has nothing to do with what was */
            w->due = w->next_scan = w->over_since = w->confirm = w->memory_files = 0;
            continue;
        }
        uint64_t now = lis_now_ns();
        if (!w->proc)
            ask_for_offer(w, account, now);
        if (!w->proc || now < w->due)
            continue;
        if (!have_read)
            read_machine(dog);
        have_read = true;
        if (w->cost > DEAR_NS && dog->lookers < MOST_LOOKERS)
            send_looker(dog, w, account);
        else
            look_and_pay(dog, w, account);
    }
}

void lis_watch_memory(struct lis_account_table *table, int offers) {
    cpu_set_t cpus;
    struct watchdog dog = {.table = table, .page = (uint64_t)sysconf(_SC_PAGESIZE)};
    int ncpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    dog.rate = RATE * (uint64_t)ncpus;
    dog.watched = mmap(NULL, LIS_MAX_ACCOUNTS * sizeof *dog.watched, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (dog.watched == MAP_FAILED)
        _exit(1);
    for (;;) {
        take_offers(&dog, offers);
        sweep(&dog);
        nanosleep(&(struct timespec){0, TICK_NS}, NULL);
    }
}
