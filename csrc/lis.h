/* Everything that one file of csrc/ offers another, grouped by file. Read main.c first for the theory of operation.
 *
 * One error rule: a function returns >= 0, or -errno; outputs are untouched on failure. Where words are needed, the
 * caller's struct lis_fault gets the stage, the errno and the path. Library files never print, never exit. */
#pragma once

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
    X(BWRAP, "bwrap", "make a sandbox with bubblewrap")

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
    LIS_STEP_OVERLAY = 2,    /* lower...; the top layer first: the root */
    LIS_STEP_BIND = 3,       /* source, target; a: enum lis_bind */
    LIS_STEP_PROC = 4,       /* target */
    LIS_STEP_DEV = 5,        /* target */
    LIS_STEP_DEVPTS = 6,     /* target */
    LIS_STEP_TMPFS = 7,      /* target; a: bytes, b: inodes, c: mode */
    LIS_STEP_DIRECTORY = 8,  /* target; a: mode */
    LIS_STEP_HOSTNAME = 9,   /* name */
    LIS_STEP_LOOPBACK = 10,
    LIS_STEP_RLIMIT = 11, /* a: resource, b: soft, c: hard */
    LIS_STEP_USER = 12,   /* a: uid, b: gid */
    LIS_STEP_NO_NESTING = 13,
    LIS_STEP_KINDS
};

/* An image's binds are the same for all its sandboxes: kept ready like layers, read-only. A mount is fetched each time. */
enum lis_bind { LIS_BIND_READ_ONLY = 0, LIS_BIND_WRITABLE = 1, LIS_BIND_OF_IMAGE = 2 };

/* A plan falls into phases, and they come in this order: privileges only ever fall. */
enum lis_phase { LIS_PHASE_NAMESPACES, LIS_PHASE_FILES, LIS_PHASE_SYSTEM, LIS_PHASE_USER };

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
    LIS_COLLECT = 18, /* to the spawner: delete what dead owners left; answered with LIS_COLLECTED */
    LIS_COLLECTED = 19,
    LIS_EXEC = 32,   /* to init */
    LIS_FILES = 33,  /* to init: one descriptor, a socket on which file requests follow */
    LIS_QUIT = 34,   /* to init: kill everything, then leave */
    LIS_DRAIN = 35,  /* to init: reading ends of pipes that children of a finished command still write to */
    LIS_MEMORY = 36, /* to init: one descriptor, a socket; the answer is init's own smaps_rollup, a descriptor */
    LIS_EXITED = 48, /* from init, on a command's socket */
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
struct lis_count_message {
    struct lis_header header;
    uint32_t count;
};
#define LIS_ID_SIZE 24
struct lis_create_message {
    struct lis_header header;
    char id[LIS_ID_SIZE]; /* the name of the sandbox's directory, NUL-terminated; the plan follows */
};

/* `flags` as of recvmsg(2). Returns the size of the message, 0 at end of file, -errno; a message that is too long or
 * carries too many descriptors is -EMSGSIZE. */
ssize_t lis_receive(int sock, int flags, void *buffer, size_t size, int fds[LIS_MAX_FDS], int *ret_nfds);
int lis_send(int sock, const void *message, size_t size, const int *fds, int nfds);
int lis_send_fault(int sock, const struct lis_fault *fault);

/* ---- process.c: starting clean ------------------------------------------------------------------------------- */

/* Undo all that a process inherits by accident: signals, umask, timers, core dumps, session and keyring. */
int lis_forget_parent(void);
/* All capabilities gone, bounding set too, no_new_privs set. */
int lis_drop_privileges(void);
/* Write the one-line id maps of the calling process: inside `uid`/`gid` is outside `outer_uid`/`outer_gid`. */
int lis_map_ids(uid_t uid, gid_t gid, uid_t outer_uid, gid_t outer_gid);
int lis_write_file(int dir, const char *path, const char *text);

/* ---- host.c: the spawner's own namespaces: what every sandbox starts from ------------------------------------- */

#define LIS_MAX_LAYERS 4096

struct lis_host {
    int outer_mounts; /* mount namespace that sees the host's file systems; owned by U0 */
    int lean_mounts;  /* the spawner's own: a handful of mounts, so that copying it is cheap */
    int owner_dir;    /* directory of this owner on the scratch file system */
    uint32_t nlayers;
    char *layers[LIS_MAX_LAYERS]; /* host path of the layer that is mounted on /l/INDEX */
};

int lis_host_enter_user_namespace(struct lis_fault *fault);
int lis_host_open(struct lis_host *host, const char *owner_path, int owner_dir, struct lis_fault *fault);
/* Index of the layer under /l, attached now, read-only, if it is new. */
int lis_host_layer(struct lis_host *host, const char *path, struct lis_fault *fault);
/* A detached copy of the mount at a host path. */
int lis_host_mount(struct lis_host *host, const char *path, bool writable, struct lis_fault *fault);

/* ---- setup.c: carry out a plan, in the child that becomes PID 1 ------------------------------------------------ */

struct lis_resources {
    const struct lis_plan *plan;
    const char *id;
    uint32_t layers[LIS_MAX_STRINGS]; /* for each string that names a lower or an image's bind: its index under /l */
    int mounts[LIS_MAX_STEPS];        /* for each other BIND step: its detached mount */
};

int lis_setup(const struct lis_resources *resources, struct lis_fault *fault);
/* The steps that need no privilege, for a process that bubblewrap has put in its place: limits, then the end of all
 * privileges. Whoever adds a kind of step that holds for the process itself adds it there, too. */
int lis_setup_rest(const struct lis_plan *plan, struct lis_fault *fault);

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
    const struct lis_plan *plan; /* and decoded */
    int sock, arguments;         /* the sandbox's control socket; a file with bubblewrap's arguments */
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
enum { LIS_EXIT_TIMED_OUT = 1, LIS_EXIT_SURVIVORS = 2 };

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
    uint64_t wall_ns, cpu_ns, max_rss;
};
/* What init waits for, first in each of the structures that epoll hands back. */
struct lis_watch {
    enum { LIS_WATCH_CONTROL, LIS_WATCH_SIGNALS, LIS_WATCH_COMMAND, LIS_WATCH_DRAIN, LIS_WATCH_LIFELINE } kind;
    int fd;
};
struct lis_command {
    struct lis_watch watch; /* its socket: the answer goes out here; end of file on it means "kill it" */
    struct lis_command *next;
    pid_t pid;
    uint32_t tag, flags;
    uint64_t started, deadline, give_up; /* ns; 0: none */
    bool killing, exited;
    unsigned freezes;
    int status;
    uint64_t cpu_ns, max_rss;
};
struct lis_tag_base {
    uint64_t up, down; /* see tree.c */
    /* open files that a command is allowed, when PID 1 has raised its own; else hard is 0 */
    uint64_t soft_files, hard_files;
};

/* Says on a command's socket that it was not started, and why. Returns -err. */
int lis_command_refuse(int ctl, int err, int at);
/* Starts what the message asks for. 0 and *ret_command, or -errno after LIS_NOT_STARTED was sent on the command's socket.
 * A program that then can't be executed says so on the socket itself, before it exits. */
int lis_command_start(const struct lis_tag_base *base, uint32_t tag, const struct lis_exec_message *message,
                      size_t size, int fds[LIS_MAX_FDS], int nfds, struct lis_command **ret_command);

/* ---- tree.c: everything that descends from one command --------------------------------------------------------- */

int lis_tag_base(struct lis_tag_base *ret_base);
/* In the child, before exec: every descendant inherits the mark and none can remove it. */
int lis_tag_set(const struct lis_tag_base *base, uint32_t tag);
/* One pass of SIGKILL over the tree. Returns how many of its processes are not dead yet. */
int lis_tree_kill(int proc, const struct lis_tag_base *base, uint32_t tag);
/* The same with everything stopped meanwhile, for a tree that forks faster than a pass kills. Whatever was stopped before
 * runs on afterwards, too. */
int lis_tree_kill_frozen(int proc, const struct lis_tag_base *base, uint32_t tag);

/* ---- files.c: file requests, served inside the sandbox by a child of PID 1 -------------------------------------- */

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

void lis_files_serve(int sock) __attribute__((noreturn));

/* ---- init.c: PID 1 of one sandbox ------------------------------------------------------------------------------- */

/* `lifeline`: when nobody holds the other end of this pipe any more, the sandbox ends; -EBADF: there is none. */
void lis_init_main(int sock, int lifeline) __attribute__((noreturn));

/* ---- trash.c: deleting trees that untrusted code made ----------------------------------------------------------- */

/* Removes dir/name and all below it; follows nothing, and needs the same memory for any depth. */
int lis_remove_tree(int dir, const char *name);
/* The same, but -ETIME when CLOCK_MONOTONIC has passed `deadline` (ns) and something is left. */
int lis_remove_tree_until(int dir, const char *name, uint64_t deadline);
/* Removes the directories under base whose owner is gone (their lock is free). Returns how many. */
int lis_collect(int base);

/* ---- spawn.c: the spawner --------------------------------------------------------------------------------------- */

/* `bwrap`, if not NULL: bubblewrap makes the sandboxes, and this process enters no namespace. */
int lis_spawn_main(const char *owner_path, struct lis_bwrap *bwrap);

/* ---- strays.c: children that nobody knows ---------------------------------------------------------------------------- */

/* SIGKILL to every child of the calling process that is not spared. */
void lis_kill_children(bool (*is_spared)(const void *context, pid_t pid), const void *context);

/* ---- run.c: a program of the host ----------------------------------------------------------------------------------- */

/* Helper mode `run`: argv[0] is a path. */
int lis_run_main(char *const argv[]);
