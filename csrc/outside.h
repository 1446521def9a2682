/* What the spawner makes sandboxes of, and what it clears away. */
#pragma once

#include "bounds.h"
#include "lis.h"

struct lis_bwrap;

/* ---- host.c: the spawner's own namespaces: what every sandbox starts from ------------------------------------- */

#define LIS_MAX_MASKS 24

/* What /proc tells about the machine and its user beyond the sandbox; hidden where this user may read it: the rest needs no
 * cover. Kernel keys are the user's in every namespace; the interrupt counters time other people's key strokes. */
#define LIS_PRIVATE_IN_PROC                                                                                            \
    "acpi", "asound", "bus", "interrupts", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount",          \
        "kpageflags", "latency_stats", "sched_debug", "scsi", "slabinfo", "softirqs", "timer_list", "timer_stats",     \
        "vmallocinfo"

struct lis_mask {
    const char *name; /* below /proc */
    bool is_dir;
};

struct lis_host {
    int outer_mounts; /* mount namespace that sees the host's file systems; owned by U0 */
    int lean_mounts;  /* the spawner's own: a handful of mounts, so that copying it is cheap */
    int owner_dir;    /* directory of this owner on the scratch file system */
    const char *owner_path;
    uint32_t uids, gids; /* that U0 has; 0: one */
    uint32_t nmasks;
    struct lis_mask masks[LIS_MAX_MASKS]; /* what is hidden in every sandbox's /proc */
    struct lis_names layers;              /* host path of the layer that is on /l/NUMBER */
};

/* `ranges`: NULL for one id, the caller's own. */
int lis_host_enter_user_namespace(const struct lis_id_ranges *ranges, struct lis_fault *fault);
int lis_host_open(struct lis_host *host, const char *owner_path, int owner_dir, struct lis_fault *fault);
/* For root under bubblewrap: from now on this process sees the host's devices read-only, and so do bubblewrap's binds of
 * them. Who owns them could set their modes and times otherwise. Needs CAP_SYS_ADMIN. */
int lis_host_protect_devices(struct lis_fault *fault);
/* A file in /dev, empty: to mount one on that every sandbox with a way out has. In the sandbox's own layer the two calls that make
 * its place took a tenth of the time that making the sandbox takes. */
#define LIS_DEV_CERTIFICATES "lisrt-ca.pem"
/* Where layers of images lie unpacked, beside the owners' directories: lisrt/store/cache.py. */
#define LIS_TREES "/.layers"
/* A layer that lies in the owner's directory: a snapshot. They come and go, and are under /s by their own names. */
#define LIS_LAYER_OF_OWNER (INT_MAX)
/* Index of the layer under /l, put there now if it is new; or LIS_LAYER_OF_OWNER. */
int lis_host_layer(struct lis_host *host, const char *path, struct lis_fault *fault);
/* A detached copy of the mount at a host path. */
int lis_host_mount(struct lis_host *host, const char *path, bool writable, struct lis_fault *fault);

/* ---- network.c: network namespaces made ahead ------------------------------------------------------------------- */

#define LIS_SPARE_NETWORKS 4

/* A namespace; a socket of rtnetlink in it; one of nfnetlink. */
#define LIS_NETWORK_PARTS 3

struct lis_spare_network {
    int network, links; /* links: below 0 where none was wanted */
};

struct lis_networks {
    pid_t pid; /* of the process that makes them; 0: none yet, or it has died */
    int sock;
    uint32_t count, asked;
    bool keeps_links;
    struct lis_spare_network spares[LIS_SPARE_NETWORKS];
};

/* One that nobody has used, its loopback up, or a number below 0. Never waits. */
int lis_network_take(struct lis_networks *networks);
/* Has one handed over on that socket, as LIS_NAMESPACE says, or LIS_HUB. -errno; what goes wrong later is told to the asker. */
int lis_network_hand_over(struct lis_networks *networks, bool with_rules, int asker);
/* Whether there should be more; and has them made. Best when nothing else is to be done: it takes a CPU and the kernel's locks
 * from the sandbox that is being made. When none is left, that is seen to without. */
bool lis_network_wanted(const struct lis_networks *networks);
void lis_network_refill(struct lis_networks *networks);
/* Its process has died. */
void lis_network_forget(struct lis_networks *networks);
/* In the network namespace of the calling process. */
int lis_loopback_up(void);

/* ---- service.c: processes beside the sandboxes ------------------------------------------------------------------ */

/* Work that can wait does until nothing has happened for so long. */
#define LIS_QUIET_MS 5
/* Numbers under which the spawner and its services have what Python handed over. */
enum { LIS_SPAWNER_CONTROL = 3, LIS_SPAWNER_OWNER_DIR = 5, LIS_SPAWNER_BASE_DIR = 6 };

struct lis_trash {
    pid_t pid;
    const struct lis_bwrap *bwrap;
    int names[2]; /* a pipe; both ends are the spawner's: what one who was killed left, the next reads */
};

/* `bwrap`, if not NULL: what the process must not hold open. */
int lis_trash_open(struct lis_trash *trash, const struct lis_bwrap *bwrap);
/* Another one, for one that was killed: what it was deleting goes with the owner's directory. */
int lis_trash_start(struct lis_trash *trash);
void lis_trash_throw(struct lis_trash *trash, const char id[LIS_ID_SIZE]);

enum lis_watchdog { LIS_WATCHDOG_MEMORY, LIS_WATCHDOG_DISK, LIS_WATCHDOGS };
/* `part`: see lis_watch_disk. */
pid_t lis_watchdog_start(enum lis_watchdog which, const struct lis_accounts *accounts, const char *part);

/* ---- setup.c: carry out a plan, in the child that becomes PID 1 ------------------------------------------------ */

struct lis_resources {
    const struct lis_plan *plan;
    const struct lis_host *host;
    const char *id;
    uint32_t layers[LIS_MAX_STRINGS]; /* for each string that names a lower or an image's bind: see lis_host_layer */
    int mounts[LIS_MAX_STEPS];        /* for each other BIND step: its detached mount */
    struct lis_filter *filter;        /* of the FILTER step */
    int network;                      /* a namespace to enter; below 0: it makes its own */
    bool is_follower;                 /* see struct lis_create_message */
    int followed;                     /* a descriptor of the other's PID 1; below 0: that has gone */
    struct lis_member member;
    struct lis_account *account; /* NULL: nothing to watch */
    int offers;                  /* see struct lis_accounts */
    uint32_t number;             /* of this sandbox: which CPUs it gets */
};

int lis_setup(const struct lis_resources *resources, struct lis_fault *fault);
/* The steps that need no privilege, for a process that bubblewrap has put in its place: limits, the end of all privileges,
 * the filter. Whoever adds a kind of step that holds for the process itself adds it there, too. */
int lis_setup_rest(const struct lis_plan *plan, uint32_t number, struct lis_fault *fault);

/* ---- target.c: mount points in a root that may be the work of untrusted code ------------------------------------- */

/* Opens `path` below the root, through no link. Parts that are missing are made, where `may_make` allows it (else -EROFS);
 * the last one is a file when is_file is set. *ret_made, if not NULL: whether the last one was made. */
int lis_open_target(int root, const char *path, bool is_file, bool may_make, bool *ret_made);
/* 1: it is there, and of the right type; 0: it, or a directory on the way, is not there; -ELOOP: a link is on the way. */
int lis_check_target(int layer, const char *path, bool is_file);

/* ---- copy.c: a layer, copied ------------------------------------------------------------------------------------- */

/* Copies all that is in a directory into another: files, directories, links, FIFOs; modes, and times of files. `onto`: there
 * is something in that already; whiteouts and opaque directories of an overlay take away from it. */
int lis_copy_layer(int from, int to, bool onto);

/* ---- bwrap.c: sandboxes made by bubblewrap ------------------------------------------------------------------------- */

struct lis_bwrap {
    const char *program;
    bool overlay; /* bubblewrap mounts the root's overlay; else the root is a copy of the layers */
    int owner_dir;
    pid_t spawner;
    int lifeline[2], arrivals[2];
};
struct lis_bwrap_request {
    const char *id;
    const void *bytes; /* the plan as it came */
    size_t size;
    const struct lis_plan *plan;       /* and decoded */
    int sock, arguments;               /* the sandbox's control socket; a file with bubblewrap's arguments */
    const struct lis_account *account; /* NULL: nothing to watch */
    const struct lis_accounts *accounts;
};

int lis_bwrap_open(struct lis_bwrap *bwrap, struct lis_fault *fault);
/* In a child that stays: what keeps sandboxes alive is the spawner's alone. */
void lis_bwrap_leave(const struct lis_bwrap *bwrap);
/* Starts a process that attends to the start of one sandbox and then exits: 0 means that the sandbox's PID 1 is the
 * spawner's child and serves. Returns its pid, or -errno. */
pid_t lis_bwrap_start(const struct lis_bwrap *bwrap, const struct lis_bwrap_request *request, struct lis_fault *fault);
/* The next PID 1 of which an attendant has told. It may not be the spawner's child before its attendant has exited. */
bool lis_bwrap_arrival(const struct lis_bwrap *bwrap, char ret_id[LIS_ID_SIZE], pid_t *ret_pid);
/* Helper mode `init`: what bubblewrap executes. */
int lis_bwrap_init_main(void);

/* ---- lift.c: modes of what may be replaced meanwhile --------------------------------------------------------------- */

/* Lets its owner read, write and enter a directory (or file) that may not; never what a link leads to. `flags`: O_DIRECTORY
 * for nothing else. Returns an O_PATH descriptor of it, and the mode that it had. */
int lis_lift(int dir, const char *name, int flags, mode_t *ret_mode);

/* ---- trash.c: deleting trees that untrusted code made ----------------------------------------------------------- */

/* Removes dir/name and all below it; follows nothing, and needs the same memory for any depth. */
int lis_remove_tree(int dir, const char *name);
/* The same, but -ETIME when CLOCK_MONOTONIC has passed `deadline` (ns) and something is left. */
int lis_remove_tree_until(int dir, const char *name, uint64_t deadline);
/* Removes the directories under base whose owner is gone (see owner.c). Returns how many. */
int lis_collect(int base);

/* ---- owner.c: what an owner leaves ------------------------------------------------------------------------------- */

/* The file in an owner's directory that says whose it is: lines of "key value". kernel/owners.py writes it. */
#define LIS_OWNER_RECORD "owner"

/* 1: an owner whose lock is free is dead; 0: it may live on another host that shares the file system. */
int lis_owner_is_of_here(int base, const char *name);
/* Removes an owner's directory, its record last. -ETIME when CLOCK_MONOTONIC has passed `deadline` (ns) and more is left. */
int lis_owner_remove(int base, const char *name, uint64_t deadline);
/* The same for Python: some milliseconds at a time, so that signals are served in between. */
int lis_owner_remove_within(int base, const char *name, unsigned milliseconds);

/* ---- spawn.c: the spawner --------------------------------------------------------------------------------------- */

/* `bwrap`, if not NULL: bubblewrap makes the sandboxes, and this process enters no namespace. `ranges`, if not NULL: ids that
 * sandboxes have beside their root. */
int lis_spawn_main(const char *owner_path, struct lis_bwrap *bwrap, const struct lis_id_ranges *ranges);
/* Helper mode `collect-subuid`: deletes what dead owners have left in a base, with the power over those ids, and prints how
 * many owners that were. */
int lis_collect_main(const char *base, const struct lis_id_ranges *ranges);

/* ---- strays.c: children that nobody knows ---------------------------------------------------------------------------- */

/* SIGKILL to every child of the calling process that is not spared. */
void lis_kill_children(bool (*is_spared)(void *context, pid_t pid), void *context);

/* ---- run.c: a program of the host ----------------------------------------------------------------------------------- */

/* Helper mode `run`: argv[0] is a path. */
int lis_run_main(char *const argv[]);

/* ---- tether.c: a program of the host beside a Python ------------------------------------------------------------- */

/* Descriptors that the program gets under the numbers that they have. */
#define LIS_TETHER_PASSED 5
#define LIS_TETHER_COUNT 2
int lis_tether_main(char *const argv[], bool inside);
