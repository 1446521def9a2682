/* Probes of single system calls, which old kernels, containers' filters and gVisor lack or forbid. */
#define _GNU_SOURCE
#include "probe.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_VERSION 1u
#define INTO_CGROUP 0x200000000ull
#define SPEC_ALLOW (1u << 2)
#define NEW_LISTENER (1u << 3)
#define EXPECTED_ERRNO 42

static int load(unsigned flags, const struct sock_fprog *program) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
    return r < 0 ? -errno : (int)r;
}

/* A filter that changes what getppid returns: loaded is not enough, it must be obeyed. */
static int filter(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXPECTED_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = LIS_COUNT(code), .filter = code};
    int with = load(SPEC_ALLOW, &program);
    int r = with < 0 ? load(0, &program) : with;
    if (r < 0)
        return lis_fails(out, -r, "load it");
    if (syscall(SYS_getppid) != -1 || errno != EXPECTED_ERRNO)
        return lis_fails(out, 0, "loaded, but not obeyed");
    return with < 0 ? lis_weaker(out, -with, "without SPEC_ALLOW") : lis_works(out, "loaded with SPEC_ALLOW, obeyed");
}

static int notify(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    const struct sock_fprog program = {.len = LIS_COUNT(code), .filter = code};
    cleanup_fd int listener = load(NEW_LISTENER, &program);
    return listener < 0 ? lis_fails(out, -listener, "make a listener") : lis_works(out, "a listener could be made");
}

static int landlock(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    long abi = syscall(LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION);
    return abi < 0 ? lis_fails(out, errno, "ask for its version") : lis_works(out, "ABI %ld", abi);
}

static int openat2_stays_beneath(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    cleanup_fd int dir = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int inside = sys_openat2(dir, "self", O_PATH | O_CLOEXEC, 0, SYS_RESOLVE_BENEATH);
    if (inside < 0)
        return lis_fails(out, errno, "openat2");
    cleanup_fd int above = sys_openat2(dir, "..", O_PATH | O_CLOEXEC, 0, SYS_RESOLVE_BENEATH);
    return above >= 0 ? lis_fails(out, 0, "openat2 lets .. lead out") : lis_works(out, "openat2");
}

static int mount_calls(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (lis_probe_enter(CLONE_NEWNS, out) < 0)
        return -1;
    cleanup_fd int fs = sys_fsopen("tmpfs", SYS_FSOPEN_CLOEXEC);
    if (fs < 0 || sys_fsconfig(fs, SYS_FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return lis_fails(out, errno, "fsopen");
    cleanup_fd int tree = sys_fsmount(fs, SYS_FSMOUNT_CLOEXEC, 0);
    if (tree < 0)
        return lis_fails(out, errno, "fsmount");
    struct sys_mount_attr attr = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    if (sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) < 0)
        return lis_fails(out, errno, "mount_setattr");
    cleanup_fd int copy = sys_open_tree(AT_FDCWD, "/dev/null", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC);
    if (copy < 0)
        return lis_fails(out, errno, "open_tree");
    if (sys_move_mount(tree, "", AT_FDCWD, "/proc", SYS_MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return lis_fails(out, errno, "move_mount");
    return lis_works(out, "mount_setattr");
}

static int close_range_closes(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
    if (sys_close_range(100, ~0u, 0) < 0)
        return lis_fails(out, errno, "close_range");
    return fcntl(fd, F_GETFD) >= 0 ? lis_fails(out, 0, "close_range closes nothing") : lis_works(out, "close_range");
}

static int pidfd(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    cleanup_fd int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0)
        return lis_fails(out, errno, "pidfd_open");
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    if (poll(&waiting, 1, 0) != 0 || syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) < 0)
        return lis_fails(out, errno, "use a pidfd");
    return lis_works(out, "pidfd_open");
}

static pid_t clone_process(uint64_t flags, int cgroup) {
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    uint64_t extended[sizeof args / 8 + 3] = {0}; /* the oldest headers end before the cgroup */
    memcpy(extended, &args, sizeof args);
    extended[10] = (uint64_t)cgroup;
    pid_t pid = (pid_t)syscall(SYS_clone3, extended, flags & INTO_CGROUP ? 88 : 64);
    if (pid == 0)
        _exit(0);
    return pid;
}

static int clone3_forks(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    pid_t pid = clone_process(0, 0);
    if (pid < 0)
        return lis_fails(out, errno, "clone3");
    return waitpid(pid, NULL, 0) == pid ? lis_works(out, "clone3") : lis_fails(out, errno, "wait for its child");
}

static int clone_into_cgroup(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe;
    cleanup_fd int dir = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return lis_fails(out, errno, "open it");
    pid_t pid = clone_process(INTO_CGROUP, dir);
    if (pid < 0)
        return lis_fails(out, errno, "clone3");
    return waitpid(pid, NULL, 0) == pid ? lis_works(out, "works") : lis_fails(out, errno, "wait for its child");
}

const struct lis_probe lis_call_probes[] = {
    {.name = "filter", .run = filter},
    {.name = "filter-notify", .run = notify},
    {.name = "landlock", .run = landlock},
    {.name = "openat2", .run = openat2_stays_beneath},
    {.name = "mount-calls", .run = mount_calls},
    {.name = "close-range", .run = close_range_closes},
    {.name = "pidfd", .run = pidfd},
    {.name = "clone3", .run = clone3_forks},
    {.name = "clone-into-cgroup", .run = clone_into_cgroup, .place = LIS_PLACE_CGROUP},
    {.name = NULL},
};
