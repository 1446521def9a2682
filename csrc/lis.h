/* What one file of csrc/ offers another, grouped by file: here what all of them speak, in bounds.h what sandboxes may use, in
 * inside.h what PID 1 is made of, in outside.h what the spawner is. Read main.c first for the theory of operation.
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
    X(READ_ONLY, "read-only", "make the root read-only")                                                               \
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
    LIS_STEP_FILTER = 14,    /* a: LIS_FILTER_* flags */
    LIS_STEP_MEMORY = 15,    /* a: bytes, b: bytes of swap, c: enum lis_by */
    LIS_STEP_PIDS = 16,      /* a: processes and threads, c: enum lis_by */
    LIS_STEP_CPUS = 17,      /* a: thousandths of a CPU, c: enum lis_by */
    LIS_STEP_DISK = 18,      /* a: bytes, b: files; 0: no limit */
    LIS_STEP_READ_ONLY = 19, /* the root and all that is mounted in it, from here on */
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
    LIS_CREATE =
        16, /* to the spawner: names, plan; a descriptor: the sandbox's control socket; see struct lis_create_message */
    LIS_KILL = 17,    /* to the spawner: id */
    LIS_DISCARD = 18, /* to the spawner: name of a layer in the owner's directory that nobody needs any more */
    LIS_TAKE = 19, /* to the spawner: what a sandbox has written gets a name of its own. A socket, for READY or FAULT */
    LIS_CGROUPS = 20, /* to the spawner: a descriptor for each control group directory that sandboxes get theirs in */
    LIS_NAMESPACE =
        21, /* to the spawner: a descriptor, a socket, on which comes LIS_NETWORK: a new network namespace and a socket
                           of rtnetlink in it; or FAULT; or its end: again, then */
    LIS_HUB = 22,      /* the same, and one of nfnetlink, if the kernel has that */
    LIS_EXEC = 32,     /* to init */
    LIS_FILES = 33,    /* to init: one descriptor, a socket on which file requests follow */
    LIS_QUIT = 34,     /* to init: kill everything, then leave */
    LIS_DRAIN = 35,    /* to init: reading ends of pipes that children of a finished command still write to */
    LIS_MEMORY = 36,   /* to init: one descriptor, a socket; the answer is init's own smaps_rollup, a descriptor */
    LIS_LISTEN = 37,   /* to init: one descriptor, a socket to the gateway: see gateway.c */
    LIS_BEQUEATH = 38, /* to init: the same as LIS_QUIT, and last of all LIS_NETWORK */
    LIS_GO = 39,     /* to one that is being made to follow another, before its READY; see struct lis_create_message */
    LIS_DIAL = 40,   /* to init: one descriptor, a socket, on which comes LIS_DIALLED: see dial.c */
    LIS_FREEZE = 41, /* to init: one descriptor, a socket, on which comes LIS_FROZEN; see struct lis_freeze_message */
    LIS_EXITED = 48, /* from init, on a command's socket */
    LIS_NOT_STARTED = 49,
    LIS_TERMINAL = 50, /* one descriptor: the master side */
    LIS_ACCEPTED =
        51, /* from init, to the gateway: a connection, its descriptor. Its end without one: it does not listen */
    LIS_NETWORK =
        52, /* from init: one descriptor, its network namespace, in which nothing lives any more; or LIS_NAMESPACE's */
    LIS_DIALLED = 53, /* from init: a connection to that port of its loopback, a descriptor; or why there is none */
    LIS_FROZEN = 54,  /* from init: how many processes that concerned */
    LIS_FILE = 64,    /* from a file server: the answer to one request */
};

struct lis_header {
    uint32_t magic, kind;
};
struct lis_fault_message {
    struct lis_header header;
    struct lis_fault fault;
};
struct lis_accepted_message {
    struct lis_header header;
    uint32_t port;
    int32_t err;
};
/* Question and answer: the port is the question's, the error, 0 if it is none, the answer's. */
struct lis_dial_message {
    struct lis_header header;
    uint32_t port;
    int32_t err;
};
/* Question: whether to stop all programs, or have them go on. Answer: how many were stopped, or -errno: EBUSY while commands
 * run. What is stopped goes on by itself when a command begins (LIS_EXEC), or the host connects to what listens inside (LIS_DIAL). */
struct lis_freeze_message {
    struct lis_header header;
    int32_t number;
};
struct lis_cgroups_message {
    struct lis_header header;
    uint32_t versions[3]; /* of memory, pids, cpu: 0 (no descriptor), 1 or 2 */
};
#define LIS_ID_SIZE 24
struct lis_named_message {
    struct lis_header header;
    char id[LIS_ID_SIZE]; /* NUL-terminated */
};
/* `id`: the sandbox, and its directory. `follows`: another sandbox, or empty. This one goes on with the other's files: all that
 * can be made while that one lives is; then it waits for LIS_GO, and until the other has ended. `inherits`: with LIS_GO may come a
 * network namespace. The plan follows. */
struct lis_create_message {
    struct lis_header header;
    char id[LIS_ID_SIZE], follows[LIS_ID_SIZE];
    uint64_t inherits;
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
    LIS_FILTER_LOCAL_SOCKETS =
        8, /* no others: where there is no network namespace. With Landlock, if the kernel has that */
    LIS_FILTER_FLAGS = 15
};
#define LIS_MAX_FILTER 1024
struct lis_filter {
    uint16_t length;
    struct sock_filter code[LIS_MAX_FILTER];
};
int lis_filter_build(unsigned flags, struct lis_filter *ret_filter);
/* From now on, for this process and its children. Wants no_new_privs. */
int lis_filter_load(struct lis_filter *filter);
/* landlock.c: abstract Unix sockets but those made from now on are out of reach. -errno where the kernel has no such thing. */
int lis_stay_among_own_sockets(void);

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

/* ---- probe.c: what this host's kernel lets us do, for `lisrt doctor` --------------------------------------------- */

int lis_probe_main(int count, char **names);
