/* What sandboxes may use, what they have used, and who sees to it. */
#pragma once

#include "lis.h"

/* ---- account.c: limits and use of each sandbox, in memory that the spawner, its watchdogs and PID 1 share ------ */

#define LIS_MAX_ACCOUNTS 16384

/* Each field has one writer, and is read and written with LIS_LOAD and LIS_STORE. */
struct lis_account {
    /* the spawner's */
    int32_t pid; /* PID 1 in the spawner's pid namespace; 0: not watched, or not yet */
    uint32_t number;
    char id[LIS_ID_SIZE];
    uint64_t memory_limit, disk_limit, files_limit; /* 0: not ours to watch */
    /* PID 1's */
    uint32_t busy; /* there are programs */
    /* the watchdog's; but PID 1 lowers the peak when a command begins */
    uint32_t memory_over; /* how often the limit was passed */
    uint64_t memory, memory_peak;
    /* the disk watchdog's */
    uint32_t disk_over;
    uint64_t disk, files;
};
#define LIS_LOAD(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
#define LIS_STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

/* What tells PID 1 to look at its account, and to offer itself to a new watchdog. Not proof of anything: programs inside
 * can send both as well. */
#define LIS_SIGNAL_LOOK SIGUSR2
#define LIS_SIGNAL_OFFER SIGUSR1

struct lis_account_table {
    uint32_t used;           /* no account from here on has ever been given out; read by the watchdogs */
    struct lis_account at[]; /* LIS_MAX_ACCOUNTS of them; pages that were never touched cost nothing */
};

struct lis_accounts {
    struct lis_account_table *table;
    int memory;            /* the file that it is */
    int offers, offers_in; /* PID 1 of a sandbox sends struct lis_offer_message with its /proc and /dev/shm: it does not
                            * let anybody in, so the watchdog can't open them by way of /proc/PID/root */
};

struct lis_offer_message {
    uint32_t number;
    char id[LIS_ID_SIZE];
};

int lis_accounts_open(struct lis_accounts *ret_accounts);
int lis_accounts_map(int memory, struct lis_account_table **ret_table);
/* A free one, cleared, and not yet watched: that begins when its pid is stored. NULL when there are too many. */
struct lis_account *lis_account_take(struct lis_account_table *table);
void lis_account_free(struct lis_account *account);

/* ---- cgroup.c: control groups, version 1 and 2 ------------------------------------------------------------------ */

enum lis_controller { LIS_CGROUP_MEMORY, LIS_CGROUP_PIDS, LIS_CGROUP_CPU, LIS_CONTROLLERS };

struct lis_cgroups {
    int version[LIS_CONTROLLERS]; /* 0: none */
    int dir[LIS_CONTROLLERS];     /* where each sandbox gets a directory of its own */
};

/* One sandbox's groups, while it is being made. */
struct lis_member {
    int into;                  /* version 2: the group to be born into; else -1 */
    int join[LIS_CONTROLLERS]; /* version 1: where the child writes itself; else -1 */
    int oom, oom_event, peak;  /* for PID 1: see struct lis_meter; else -1 */
    int pids_events;
};

/* Makes the groups that the plan asks for. On failure nothing is left. */
int lis_cgroup_make(const struct lis_cgroups *cgroups, const char *id, const struct lis_plan *plan,
                    struct lis_member *ret_member, struct lis_fault *fault);
/* In the child. */
int lis_cgroup_join(const struct lis_member *member, struct lis_fault *fault);
void lis_member_close(struct lis_member *member);
void lis_cgroup_remove(const struct lis_cgroups *cgroups, const char *id);
/* All that are left in our directories, and those themselves. */
void lis_cgroup_remove_all(const struct lis_cgroups *cgroups);

/* ---- watchdog.c, disk.c: limits that no control group enforces ------------------------------------------------- */

void lis_watch_memory(struct lis_account_table *table, int offers) __attribute__((noreturn));
/* `dir`: the owner's; what a sandbox has written lies in ID/`part` of it. */
void lis_watch_disk(struct lis_account_table *table, int dir, const char *part) __attribute__((noreturn));

/* ---- meter.c: what PID 1 knows of its limits ---------------------------------------------------------------------- */

struct lis_meter {
    struct lis_account *account; /* NULL: no account */
    int offers;                  /* to the watchdog; -1: there is none */
    int oom;                     /* memory.events or memory.oom_control, which count; -1: no group */
    int oom_event;               /* version 1's eventfd; -1: epoll waits on `oom` itself */
    int peak;                    /* memory.peak or memory.max_usage_in_bytes */
    int pids_events;
    uint64_t oom_kills, ooms, pids_refused;
    bool counts_ooms, reached;
    uint32_t memory_over, disk_over;
    uint64_t pids; /* the limit that is ours to enforce; 0: none */
};

void lis_meter_init(struct lis_meter *meter);
/* Hands the watchdog what it looks at. */
int lis_meter_offer(const struct lis_meter *meter, int proc, int patience_ms);
/* LIS_EXIT_* flags for what was passed since it was last asked. */
uint32_t lis_meter_passed(struct lis_meter *meter);
/* A command begins, alone or beside others; programs run, or none do. */
void lis_meter_begin(struct lis_meter *meter, bool alone);
void lis_meter_busy(struct lis_meter *meter, bool busy);
uint64_t lis_meter_peak(const struct lis_meter *meter);
