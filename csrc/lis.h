/* Everything that one file of csrc/ offers another, grouped by file. Read main.c first for the theory of operation.
 *
 * One error rule: a function returns >= 0, or -errno; outputs are untouched on failure. Where words are needed, the
 * caller's struct lis_fault gets the stage, the errno and the path. Library files never print, never exit. */
#pragma once

#include <limits.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- fault.c: what failed, in three numbers and a path ------------------------------------------------------- */

/* The order is the wire format; add at the end. Python reads the names from here, so that the two cannot drift. */
#define LIS_STAGES(X)                                                                                                  \
    X(NONE, "none", "do nothing")                                                                                      \
    X(REQUEST, "request", "understand the request")                                                                    \
    X(USER_NAMESPACE, "user-namespace", "create a user namespace")                                                     \
    X(ID_MAP, "id-map", "map the user into the user namespace")                                                        \
    X(PID_NAMESPACE, "pid-namespace", "create a pid namespace")                                                        \
    X(MOUNT_NAMESPACE, "mount-namespace", "create a mount namespace")                                                  \
    X(SCRATCH, "scratch", "use the scratch directory")                                                                 \
    X(OVERLAY_PROBE, "overlay-probe", "use the scratch directory for an overlay's writable layer")                     \
    X(PROC, "proc", "mount /proc")                                                                                     \
    X(DEV, "dev", "prepare /dev")                                                                                      \
    X(LAYER, "layer", "open an image layer")                                                                           \
    X(MOUNT_SOURCE, "mount-source", "open the source of a mount")                                                      \
    X(PROCESS, "process", "start a process")                                                                           \
    X(NAMESPACES, "namespaces", "create the namespaces")                                                               \
    X(NETWORK_NAMESPACE, "network-namespace", "create a network namespace")                                            \
    X(WRITABLE_LAYER, "writable-layer", "make the writable layer's directories")                                       \
    X(OVERLAY, "overlay", "mount the overlay")                                                                         \
    X(MOUNT_POINT, "mount-point", "open or make a mount point")                                                        \
    X(MOUNT, "mount", "attach a mount")                                                                                \
    X(TMPFS, "tmpfs", "mount a tmpfs")                                                                                 \
    X(DEVPTS, "devpts", "mount /dev/pts")                                                                              \
    X(DIRECTORY, "directory", "make a directory")                                                                      \
    X(PIVOT, "pivot", "change to the new root")                                                                        \
    X(HOSTNAME, "hostname", "set the host name")                                                                       \
    X(LOOPBACK, "loopback", "bring the loopback interface up")                                                         \
    X(RLIMIT, "rlimit", "set a resource limit")                                                                        \
    X(NESTED_USER_NAMESPACE, "nested-user-namespace", "create the inner user namespace")                               \
    X(NO_NESTING, "no-nesting", "forbid further namespaces")                                                           \
    X(PRIVILEGES, "privileges", "drop all privileges")                                                                 \
    X(INIT, "init", "start serving as PID 1")                                                                          \
    X(FILTER, "filter", "load the filter of system calls")                                                             \
    X(CGROUP, "cgroup", "make the control group")                                                                      \
    X(LIMIT, "limit", "set up a limit")                                                                                \
    X(WATCHDOG, "watchdog", "start the process that watches the limits")                                               \
    X(BWRAP, "bwrap", "make a sandbox with bubblewrap")                                                                \
    X(ID_RANGES, "id-ranges", "map subordinate ids into the user namespace")

enum lis_stage {
#define LIS_STAGE_ENUM(name, slug, words) LIS_STAGE_##name,
    LIS_STAGES(LIS_STAGE_ENUM)
#undef LIS_STAGE_ENUM
        LIS_STAGE_COUNT
};

struct lis_fault {
    int32_t stage;
    int32_t err;
    char path[248];
};

/* Fills the fault and returns -err, so that callers can write: return lis_fail(fault, LIS_STAGE_X, errno, path); */
int lis_fail(struct lis_fault *fault, enum lis_stage stage, int err, const char *path);
const char *lis_stage_slug(int stage);
const char *lis_stage_words(int stage);

/* ---- plan.c: decode and check, with no side effect ------------------------------------------------------------ */

#define LIS_MAGIC 0x3153494cu /* "LIS1" */
#define LIS_MAX_STEPS 256
#define LIS_MAX_STRINGS 2048
#define LIS_MAX_PLAN (128 * 1024)

enum lis_step_kind {
    LIS_STEP_NAMESPACES = 1, /* a: CLONE_NEW* flags */
    LIS_STEP_OVERLAY =
        2, /* lower...; the top layer first: the root. a: bytes of a tmpfs to write to, 0: the scratch directory */
    LIS_STEP_BIND = 3,   /* source, target; a: enum lis_bind */
    LIS_STEP_PROC = 4,   /* target */
    LIS_STEP_DEV = 5,    /* target */
    LIS_STEP_DEVPTS = 6, /* target */
    LIS_STEP_TMPFS = 7,  /* target; a: bytes, b: inodes, c: mode */
    LIS_STEP_DIRECTORY =
        8, /* target; a: mode, c: owner << 32 | group; of a new one, b: 1 the mode, 2 the owner also of one that is there */
    LIS_STEP_HOSTNAME = 9, /* name */
    LIS_STEP_LOOPBACK = 10,
    LIS_STEP_RLIMIT = 11, /* a: resource, b: soft, c: hard */
    LIS_STEP_USER = 12,   /* a: uid, b: gid, c: 1 with real ids */
    LIS_STEP_NO_NESTING = 13,
    LIS_STEP_FILTER = 14, /* a: LIS_FILTER_* flags */
    LIS_STEP_MEMORY = 15, /* a: bytes, b: bytes of swap, c: enum lis_by */
    LIS_STEP_PIDS = 16,   /* a: processes and threads, c: enum lis_by */
    LIS_STEP_CPUS = 17,   /* a: thousandths of a CPU, c: enum lis_by */
    LIS_STEP_DISK = 18,   /* a: bytes, b: files; 0: no limit */
    LIS_STEP_KINDS
};

/* An image's binds are the same for all its sandboxes: kept ready like layers, read-only. A mount is fetched each time. */
enum lis_bind { LIS_BIND_READ_ONLY = 0, LIS_BIND_WRITABLE = 1, LIS_BIND_OF_IMAGE = 2 };

/* Who enforces a limit: ourselves (the watchdog, a resource limit, the set of CPUs), or the kernel by a control group. */
enum lis_by { LIS_BY_OURSELVES = 0, LIS_BY_CGROUP = 1 };

/* Processes of PID 1's own that a full sandbox still has room for, so that a command can be run that clears up. */
#define LIS_RESERVED_PIDS 16

/* A plan falls into phases, and they come in this order: privileges only ever fall. */
enum lis_phase { LIS_PHASE_NAMESPACES, LIS_PHASE_FILES, LIS_PHASE_SYSTEM, LIS_PHASE_USER, LIS_PHASE_POWERLESS };

struct lis_step {
    uint16_t kind, nstrings;
    uint32_t first; /* index into lis_plan.strings */
    uint64_t a, b, c;
};

struct lis_plan {
    uint32_t nsteps, nstrings;
    struct lis_step steps[LIS_MAX_STEPS];
    const char *strings[LIS_MAX_STRINGS]; /* point into the decoded buffer */
};

/* The plan refers to the buffer, which must outlive it. -EPROTO with the reason in the fault's path when it is not valid. */
int lis_plan_decode(const void *buffer, size_t size, struct lis_plan *ret_plan, struct lis_fault *fault);
enum lis_phase lis_step_phase(uint16_t kind);
/* The first step of a kind; NULL when there is none. */
const struct lis_step *lis_find_step(const struct lis_plan *plan, uint16_t kind);

static inline const char *lis_string(const struct lis_plan *plan, const struct lis_step *step, uint32_t i) {
    return plan->strings[step->first + i];
}

/* ---- wire.c: messages and descriptors over a SEQPACKET socket --------------------------------------------------- */

#define LIS_MAX_FDS 6

enum lis_message_kind {
    LIS_READY = 1,
    LIS_FAULT = 2,
    LIS_CREATE = 16,  /* to the spawner: id, plan; one descriptor: the sandbox's control socket */
    LIS_KILL = 17,    /* to the spawner: id */
    LIS_DISCARD = 18, /* to the spawner: name of a layer in the owner's directory that nobody needs any more */
    LIS_TAKE = 19, /* to the spawner: what a sandbox has written gets a name of its own. A socket, for READY or FAULT */
    LIS_CGROUPS = 20, /* to the spawner: a descriptor for each control group directory that sandboxes get theirs in */
    LIS_EXEC = 32,    /* to init */
    LIS_FILES = 33,   /* to init: one descriptor, a socket on which file requests follow */
    LIS_QUIT = 34,    /* to init: kill everything, then leave */
    LIS_DRAIN = 35,   /* to init: reading ends of pipes that children of a finished command still write to */
    LIS_MEMORY = 36,  /* to init: one descriptor, a socket; the answer is init's own smaps_rollup, a descriptor */
    LIS_EXITED = 48,  /* from init, on a command's socket */
    LIS_NOT_STARTED = 49,
    LIS_TERMINAL = 50, /* one descriptor: the master side */
    LIS_FILE = 64,     /* from a file server: the answer to one request */
};

struct lis_header {
    uint32_t magic, kind;
};
struct lis_fault_message {
    struct lis_header header;
    struct lis_fault fault;
};
struct lis_cgroups_message {
    struct lis_header header;
    uint32_t versions[3]; /* of memory, pids, cpu: 0 (no descriptor), 1 or 2 */
};
#define LIS_ID_SIZE 24
struct lis_create_message {
    struct lis_header header;
    char id[LIS_ID_SIZE]; /* the name of the sandbox's directory, NUL-terminated; the plan follows */
};
struct lis_take_message {
    struct lis_header header;
    char id[LIS_ID_SIZE], name[LIS_ID_SIZE];
};

/* `flags` as of recvmsg(2). Returns the size of the message, 0 at end of file, -errno; a message that is too long or
 * carries too many descriptors is -EMSGSIZE. */
ssize_t lis_receive(int sock, int flags, void *buffer, size_t size, int fds[LIS_MAX_FDS], int *ret_nfds);
int lis_send(int sock, const void *message, size_t size, const int *fds, int nfds);
int lis_send_fault(int sock, const struct lis_fault *fault);
/* What is in a message, decoded with no side effect; `size` as lis_receive returned it, an error too.
 * The kind; 0 for what is no message, or an EXEC shorter than its numbers. */
uint32_t lis_message_kind(const void *message, ssize_t size);
/* The name in a CREATE, KILL or DISCARD, which points into the message; NULL when it can't be a directory's. */
const char *lis_message_id(const void *message, ssize_t size);

/* ---- process.c: starting clean ------------------------------------------------------------------------------- */

/* Undo all that a process inherits by accident: signals, umask, timers, core dumps, session and keyring. */
int lis_forget_parent(void);
/* All capabilities but those that are kept gone, bounding set too, no_new_privs set. */
int lis_drop_privileges(uint64_t kept);
int lis_set_capabilities(uint64_t kept);
int lis_write_file(int dir, const char *path, const char *text);

/* ---- ids.c: user ids, one or many ------------------------------------------------------------------------------- */

/* Ranges of subordinate ids, and the tools that map them. U0 then has the caller's own id as 0 and these from 1 on. */
struct lis_id_ranges {
    const char *uid_tool, *gid_tool;
    uint32_t uid, uids, gid, gids;
};
/* Who commands are. Real: with ids of their own; else there is one in the sandbox, whatever it is called. */
struct lis_user {
    bool is_real;
    uid_t uid;
    gid_t gid;
};
#define LIS_CAPABILITY(number) (UINT64_C(1) << (number))
/* What root of a sandbox with real ids has: over files and processes in there, and to become others. */
#define LIS_KEPT_BY_ROOT                                                                                               \
    (LIS_CAPABILITY(CAP_CHOWN) | LIS_CAPABILITY(CAP_DAC_OVERRIDE) | LIS_CAPABILITY(CAP_FOWNER) |                       \
     LIS_CAPABILITY(CAP_FSETID) | LIS_CAPABILITY(CAP_KILL) | LIS_CAPABILITY(CAP_SETGID) | LIS_CAPABILITY(CAP_SETUID))
/* PID 1 also reads the marks of others' processes (tree.c), and takes that away from each command. */
#define LIS_KEPT_BY_INIT (LIS_KEPT_BY_ROOT | LIS_CAPABILITY(CAP_SYS_RESOURCE) | LIS_CAPABILITY(CAP_SETPCAP))

/* Write the one-line id maps of the calling process: inside `uid`/`gid` is outside `outer_uid`/`outer_gid`. `proc` is a
 * writable /proc. */
int lis_map_ids(int proc, uid_t uid, gid_t gid, uid_t outer_uid, gid_t outer_gid);
/* Enters a user namespace with these ranges, as its root. */
int lis_enter_with_ranges(const struct lis_id_ranges *ranges, struct lis_fault *fault);
/* Enters one in which the first so many ids are what they are in the one around it, which needs power over that. */
int lis_enter_with_all_ids(int proc, uint32_t uids, uint32_t gids, struct lis_fault *fault);
/* In a child of PID 1: from here on this is that user, where ids are real. */
int lis_become(const struct lis_user *user);

/* ---- seccomp.c: the filter of system calls -------------------------------------------------------------------- */

enum {
    LIS_FILTER_EMULATE_ROOT = 1, /* chown, set*id, mknod of a device and their like succeed, and do nothing */
    LIS_FILTER_KEEP_CPUS = 2,    /* the set of CPUs that a process may use is a limit: nobody changes it */
    LIS_FILTER_REAL_IDS = 4,     /* and yet chown and set*id are the kernel's: there are ids */
    LIS_FILTER_FLAGS = 7
};
#define LIS_MAX_FILTER 1024
struct lis_filter {
    uint16_t length;
    struct sock_filter code[LIS_MAX_FILTER];
};
int lis_filter_build(unsigned flags, struct lis_filter *ret_filter);
/* From now on, for this process and its children. Wants no_new_privs. */
int lis_filter_load(struct lis_filter *filter);

/* ---- names.c: strings with numbers -------------------------------------------------------------------------------- */

#define LIS_MAX_NAMES (1u << 20)
struct lis_names {
    char **at; /* by number */
    uint32_t *slots;
    uint32_t count, capacity;
};
/* The number of a name; -1: it has none yet. */
int lis_names_find(const struct lis_names *names, const char *text);
/* A number for a name that has none, the next one; or -errno. */
int lis_names_add(struct lis_names *names, const char *text);

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
/* Where layers of images lie unpacked, beside the owners' directories: lisrt/store/cache.py. */
#define LIS_TREES "/.layers"
/* A layer that lies in the owner's directory: a snapshot. They come and go, and are under /s by their own names. */
#define LIS_LAYER_OF_OWNER (INT_MAX)
/* Index of the layer under /l, put there now if it is new; or LIS_LAYER_OF_OWNER. */
int lis_host_layer(struct lis_host *host, const char *path, struct lis_fault *fault);
/* A detached copy of the mount at a host path. */
int lis_host_mount(struct lis_host *host, const char *path, bool writable, struct lis_fault *fault);

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

struct lis_bwrap;

/* ---- service.c: processes beside the sandboxes ------------------------------------------------------------------ */

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

/* ---- network.c: network namespaces made ahead ------------------------------------------------------------------- */

#define LIS_SPARE_NETWORKS 4

struct lis_networks {
    pid_t pid; /* of the process that makes them; 0: none yet, or it has died */
    int sock;
    uint32_t count, asked;
    int spares[LIS_SPARE_NETWORKS];
};

/* One that nobody has used, its loopback up, or a number below 0; and sees to it that there will be others. Never waits. */
int lis_network_take(struct lis_networks *networks);
/* Its process has died. */
void lis_network_forget(struct lis_networks *networks);
/* In the network namespace of the calling process. */
int lis_loopback_up(void);

enum lis_watchdog { LIS_WATCHDOG_MEMORY, LIS_WATCHDOG_DISK, LIS_WATCHDOGS };
/* `part`: see lis_watch_disk. */
pid_t lis_watchdog_start(enum lis_watchdog which, const struct lis_accounts *accounts, const char *part);

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

/* ---- setup.c: carry out a plan, in the child that becomes PID 1 ------------------------------------------------ */

struct lis_resources {
    const struct lis_plan *plan;
    const struct lis_host *host;
    const char *id;
    uint32_t layers[LIS_MAX_STRINGS]; /* for each string that names a lower or an image's bind: see lis_host_layer */
    int mounts[LIS_MAX_STEPS];        /* for each other BIND step: its detached mount */
    struct lis_filter *filter;        /* of the FILTER step */
    int network;                      /* a namespace to enter; below 0: it makes its own */
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

/* ---- command.c: one program, started by PID 1 ------------------------------------------------------------------ */

enum { LIS_EXEC_STDIN = 1, LIS_EXEC_STDOUT = 2, LIS_EXEC_STDERR = 4, LIS_EXEC_TERMINAL = 8, LIS_EXEC_BODY = 16 };
enum { LIS_AT_PROGRAM = 1, LIS_AT_CWD = 2, LIS_AT_SETUP = 3 };
enum {
    LIS_EXIT_TIMED_OUT = 1,
    LIS_EXIT_SURVIVORS = 2,
    LIS_EXIT_OUT_OF_MEMORY = 4, /* the sandbox was, and everything in it was killed */
    LIS_EXIT_DISK = 8,          /* likewise */
    LIS_EXIT_PIDS = 16          /* there was no room for another process or thread */
};

struct lis_exec_message {
    struct lis_header header;
    uint32_t flags, argc, envc, rows_columns;
    uint64_t timeout_ns; /* 0: none */
    /* then NUL-terminated: cwd, argv..., env...; in a memory file instead when LIS_EXEC_BODY is set */
};
struct lis_exit_message {
    struct lis_header header;
    uint32_t flags;
    int32_t wait_status, err, at; /* err and at: of LIS_NOT_STARTED */
    uint64_t wall_ns, cpu_ns, max_rss, written;
    uint64_t memory_peak; /* of the sandbox; 0: not known */
};
/* What init waits for, first in each of the structures that epoll hands back. */
struct lis_watch {
    enum {
        LIS_WATCH_CONTROL,
        LIS_WATCH_SIGNALS,
        LIS_WATCH_COMMAND,
        LIS_WATCH_DRAIN,
        LIS_WATCH_LIMIT,
        LIS_WATCH_LIFELINE
    } kind;
    int fd;
};
struct lis_command {
    struct lis_watch watch; /* its socket: the answer goes out here; end of file on it means "kill it" */
    struct lis_command *next;
    pid_t pid;
    uint32_t tag, flags;
    uint64_t started, ended, deadline, give_up; /* ns; 0: none */
    bool killing, exited;
    unsigned freezes, looks;
    int status;
    uint64_t cpu_ns, max_rss, written;
};
struct lis_tag_base {
    uint64_t up, down; /* see tree.c */
    /* open files that a command is allowed, when PID 1 has raised its own; else hard is 0 */
    uint64_t soft_files, hard_files;
    uint64_t pids; /* processes and threads that commands may have in all, PID 1 among them; 0: no limit of ours */
};

/* The strings of an EXEC. They point into its text; argv, NULL-terminated like envp, is the one allocation of both. */
struct lis_exec_strings {
    const char *cwd;
    char **argv, **envp;
};
/* -EPROTO when the text does not hold as many strings as it should. Free ret->argv. */
int lis_exec_split(char *text, size_t size, uint32_t argc, uint32_t envc, struct lis_exec_strings *ret);
/* Says on a command's socket that it was not started, and why. Returns -err. */
int lis_command_refuse(int ctl, int err, int at);
/* Starts what the message asks for. 0 and *ret_command, or -errno after LIS_NOT_STARTED was sent on the command's socket.
 * A program that then can't be executed says so on the socket itself, before it exits. */
int lis_command_start(const struct lis_tag_base *base, const struct lis_user *user, uint32_t tag,
                      const struct lis_exec_message *message, size_t size, int fds[LIS_MAX_FDS], int nfds,
                      struct lis_command **ret_command);

/* ---- tree.c: everything that descends from one command --------------------------------------------------------- */

int lis_tag_base(struct lis_tag_base *ret_base);
/* In the child, before exec: every descendant inherits the mark and none can remove it. */
int lis_tag_set(const struct lis_tag_base *base, uint32_t tag);
/* One pass of SIGKILL over the tree. Returns how many of its processes are not dead yet. */
int lis_tree_kill(int proc, const struct lis_tag_base *base, uint32_t tag);
/* The same with everything stopped meanwhile, for a tree that forks faster than a pass kills. Whatever was stopped before
 * runs on afterwards, too. */
int lis_tree_kill_frozen(int proc, const struct lis_tag_base *base, uint32_t tag);
/* Processes and threads in the sandbox, PID 1 among them. */
uint64_t lis_tree_tasks(int proc);

/* ---- files.c: file requests, served inside the sandbox by a child of PID 1 -------------------------------------- */

#define LIS_EXACT_MODE 010000 /* OPEN_WRITE: the mode is for a file that is there, too */

enum lis_file_op { LIS_OPEN_READ = 1, LIS_OPEN_WRITE = 2, LIS_LIST = 3, LIS_MKDIR = 4, LIS_SYMLINK = 5, LIS_STAT = 6 };

struct lis_file_request {
    struct lis_header header;
    uint32_t op, mode;
    /* then the path and, for a symlink, its target; both NUL-terminated */
};
struct lis_file_reply {
    struct lis_header header;
    int32_t err;
    uint32_t mode; /* type and permissions */
    uint64_t size;
    uint32_t more; /* LIST: another entry follows */
    /* then, for LIST, the entry's name and link target, NUL-terminated */
};

/* The path, and the second string or "", which point into the request. -ENAMETOOLONG and -EINVAL are worth an answer;
 * after -EPROTO there is nobody to talk to. */
int lis_file_request_decode(const struct lis_file_request *request, ssize_t size, const char **ret_path,
                            const char **ret_second);
/* Receives one request and answers it; < 0 when the connection is over. */
int lis_files_serve_one(int sock);
void lis_files_serve(int sock) __attribute__((noreturn));

/* ---- init.c: PID 1 of one sandbox ------------------------------------------------------------------------------- */

/* `lifeline`: when nobody holds the other end of this pipe any more, the sandbox ends; -EBADF: there is none. The
 * descriptors in `meter` are moved; those that are named nowhere are closed. */
void lis_init_main(int sock, int lifeline, const struct lis_meter *meter, const struct lis_user *user)
    __attribute__((noreturn));

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
void lis_kill_children(bool (*is_spared)(const void *context, pid_t pid), const void *context);

/* ---- run.c: a program of the host ----------------------------------------------------------------------------------- */

/* Helper mode `run`: argv[0] is a path. */
int lis_run_main(char *const argv[]);

/* ---- probe.c: what this host's kernel lets us do, for `lisrt doctor` --------------------------------------------- */

int lis_probe_main(int count, char **names);
