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
#include "bounds.h"
#include "lis.h"
#include "memory.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
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
#define MOST_OFFERS 64 /* taken between two sweeps */
#define MOST_LOOKERS 16
#define MOST_DOUBTS 20 /* looks, one right after the other */

/* In memory that is shared with processes for single looks. */
struct watched {
    char id[LIS_ID_SIZE];
    struct lis_place place;
    pid_t looker;
    uint64_t due, next_scan, asked, over_since, confirm;
    uint64_t shmem_then; /* all shared memory of this machine, at the last scan */
    uint64_t cost;       /* CPU time of the last look */
};

struct watchdog {
    struct lis_account_table *table;
    struct watched *watched;
    uint64_t rate, shmem;
    bool has_swap;
    int lookers;
    struct lis_gauge gauge;
};

static void forget(struct watched *w) {
    if (w->place.proc) {
        closedir(w->place.proc);
        lis_close(w->place.shm);
    }
    *w = (struct watched){.place.shm = -EBADF, .looker = w->looker};
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
        w->place.proc = proc;
        w->place.shm = fds[1];
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

static void scan(struct watchdog *dog, struct watched *w, uint64_t now) {
    lis_scan_memory_files(&dog->gauge, &w->place);
    w->shmem_then = dog->shmem;
    w->next_scan = now + SCAN_NS;
}

/* Bytes that the sandbox uses, as exactly as the limit wants it. *ret_sure: no second look could say otherwise. *ret_doubt:
 * so much less it may be. */
static uint64_t measure(struct watchdog *dog, struct watched *w, uint64_t limit, uint64_t now, bool *ret_sure,
                        uint64_t *ret_doubt) {
    bool second = now >= w->next_scan;
    /* anybody's shared memory, perhaps; but it may be this sandbox's memory files */
    bool stale = second || (dog->shmem > w->shmem_then && dog->shmem - w->shmem_then > limit / 20);
    /* nobody is killed for what the last scan has found: its owner may be dead */
    if (stale || w->place.memory_files > NEAR(limit) / 2)
        scan(dog, w, now);
    struct lis_resident cheap = lis_look_cheaply(&dog->gauge, &w->place);
    uint64_t files = lis_named_memory(&w->place);
    *ret_sure = cheap.largest_own > limit || files > limit;
    if (*ret_sure || (cheap.all + files <= NEAR(limit) && !(second && dog->has_swap)))
        return cheap.own + files;
    scan(dog, w, now);
    return lis_look_exactly(&dog->gauge, &w->place, limit, ret_doubt);
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
    if (usage > LIS_LOAD(account->memory_peak) && usage < LIS_TOO_MUCH)
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
        if (w->place.proc && memcmp(w->id, account->id, LIS_ID_SIZE) != 0)
            forget(w);
        if (!LIS_LOAD(account->pid) || !account->memory_limit)
            continue;
        if (!LIS_LOAD(account->busy)) { /* what comes next has nothing to do with what was */
            w->due = w->next_scan = w->over_since = w->confirm = w->place.memory_files = 0;
            continue;
        }
        uint64_t now = lis_now_ns();
        if (!w->place.proc)
            ask_for_offer(w, account, now);
        if (!w->place.proc || now < w->due)
            continue;
        if (!have_read)
            dog->shmem = lis_shared_by_all(&dog->has_swap);
        have_read = true;
        if (w->cost > DEAR_NS && dog->lookers < MOST_LOOKERS)
            send_looker(dog, w, account);
        else
            look_and_pay(dog, w, account);
    }
}

void lis_watch_memory(struct lis_account_table *table, int offers) {
    cpu_set_t cpus;
    struct watchdog dog = {.table = table, .gauge.page = (uint64_t)sysconf(_SC_PAGESIZE)};
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
