/* Probes of namespaces: made the way the spawner and a sandbox's setup make them. */
#define _GNU_SOURCE
#include "outside.h"
#include "probe.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "util.h"

static int user_namespace(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    struct lis_fault fault;
    if (lis_host_enter_user_namespace(NULL, &fault) < 0)
        return lis_fails(out, fault.err, "%s", lis_stage_slug(fault.stage));
    return lis_works(out, "created, ids mapped");
}

/* Ubuntu's AppArmor lets unshare pass and then denies what the new namespace's capabilities are for. */
static int capabilities(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    char profile[100] = "";
    if (lis_probe_enter(CLONE_NEWNS, out) < 0)
        return -1;
    cleanup_fd int attr = open("/proc/self/attr/current", O_RDONLY | O_CLOEXEC);
    if (attr >= 0 && read(attr, profile, sizeof profile - 1) < 0)
        profile[0] = 0;
    if (mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") < 0)
        return lis_fails(out, errno, "%s", profile);
    return lis_works(out, "a tmpfs could be mounted");
}

static int in_namespace(int kind, struct lis_outcome *out) {
    if (kind == CLONE_NEWUTS && sethostname("probe", 5) < 0)
        return lis_fails(out, errno, "set the host name");
    if (kind != CLONE_NEWPID)
        return lis_works(out, "created");
    pid_t pid = fork();
    if (pid == 0)
        _exit(getpid() == 1 ? 0 : 1);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        return lis_fails(out, pid < 0 ? errno : 0, "become PID 1");
    return lis_works(out, "created");
}

static int namespace(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)place;
    if (lis_probe_enter(0, out) < 0)
        return -1;
    if (unshare((int)probe->flag) < 0)
        return lis_fails(out, errno, "create it");
    return in_namespace((int)probe->flag, out);
}

static int network_namespace(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (lis_probe_enter(0, out) < 0)
        return -1;
    if (unshare(CLONE_NEWNET) < 0)
        return lis_fails(out, errno, "create it");
    cleanup_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof own;
    char byte = 'x';
    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) < 0)
        return lis_fails(out, errno, "bring the loopback interface up");
    if (bind(sock, (struct sockaddr *)&own, size) < 0 || getsockname(sock, (struct sockaddr *)&own, &size) < 0 ||
        sendto(sock, &byte, 1, 0, (struct sockaddr *)&own, size) != 1 || recv(sock, &byte, 1, MSG_DONTWAIT) != 1)
        return lis_fails(out, errno, "talk over the loopback interface");
    return lis_works(out, "created, loopback works");
}

static int fresh_proc(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (lis_probe_enter(CLONE_NEWNS | CLONE_NEWPID, out) < 0)
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return lis_untried(out, errno, "fork");
    if (pid > 0)
        return waitpid(pid, NULL, 0) < 0 ? -1 : 0; /* the child has said it */
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (mount("proc", "/proc", "proc", flags, NULL) == 0)
        return lis_works(out, "mounted");
    int err = errno;
    if (mount("proc", "/proc", "proc", flags, "subset=pid") == 0)
        return lis_weaker(out, err, "only with subset=pid");
    return lis_fails(out, err, "mount it");
}

static int enter_nested(struct lis_outcome *out) {
    if (unshare(CLONE_NEWUSER) < 0)
        return lis_fails(out, errno, "create it");
    cleanup_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = proc < 0 ? -errno : lis_map_ids(proc, 0, 0, 0, 0);
    return r < 0 ? lis_fails(out, -r, "map ids") : 0;
}

/* What a sandbox is left in: a user namespace that owns none of the others. */
static int nested(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (lis_probe_enter(CLONE_NEWNS, out) < 0 || enter_nested(out) < 0)
        return -1;
    if (mount("tmpfs", "/proc", "tmpfs", 0, NULL) == 0)
        return lis_weaker(out, 0, "root in it can still mount");
    return lis_works(out, "created; root in it has no power over mounts");
}

static int no_nesting(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (lis_probe_become_first(out) < 0 || enter_nested(out) < 0)
        return -1;
    int r = lis_write_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", "0");
    if (r < 0)
        return lis_fails(out, -r, "write user.max_user_namespaces");
    if (unshare(CLONE_NEWUSER) == 0)
        return lis_fails(out, 0, "a namespace could be created at a limit of 0");
    return lis_works(out, "further namespaces can be forbidden");
}

enum { CROWD = 8, FAR_TOO_MANY = 24 };

/* Forks processes that wait for their parent's end. Returns how many there are when no more can be. */
static int crowd(int most) {
    int count = 0;
    while (count < most) {
        pid_t pid = fork();
        if (pid < 0)
            return count;
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            pause();
            _exit(0);
        }
        count++;
    }
    return count;
}

/* Where RLIMIT_NPROC counts per user namespace (5.14), it limits one sandbox; else all that the user runs. */
static int process_limit(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (crowd(CROWD) < CROWD)
        return lis_untried(out, errno, "needs %d processes", CROWD);
    if (lis_probe_enter(0, out) < 0)
        return -1;
    struct rlimit limit = {CROWD, CROWD};
    if (setrlimit(RLIMIT_NPROC, &limit) < 0)
        return lis_fails(out, errno, "set RLIMIT_NPROC");
    int inside = crowd(FAR_TOO_MANY);
    if (inside == FAR_TOO_MANY)
        return lis_fails(out, 0, "%d processes at a limit of %d", inside, CROWD);
    if (inside < CROWD - 2)
        return lis_fails(out, 0, "counts what the user runs outside as well");
    return lis_works(out, "counted per user namespace");
}

const struct lis_probe lis_namespace_probes[] = {
    {.name = "user-namespace", .run = user_namespace},
    {.name = "capabilities", .run = capabilities},
    {.name = "mount-namespace", .run = namespace, .flag = CLONE_NEWNS},
    {.name = "pid-namespace", .run = namespace, .flag = CLONE_NEWPID},
    {.name = "ipc-namespace", .run = namespace, .flag = CLONE_NEWIPC},
    {.name = "uts-namespace", .run = namespace, .flag = CLONE_NEWUTS},
    {.name = "cgroup-namespace", .run = namespace, .flag = CLONE_NEWCGROUP},
    {.name = "network-namespace", .run = network_namespace},
    {.name = "proc", .run = fresh_proc},
    {.name = "nested-user-namespace", .run = nested},
    {.name = "no-nesting", .run = no_nesting},
    {.name = "process-limit", .run = process_limit},
    {.name = NULL},
};
