/* What is measured. One function an operation, and in it the system calls one after the other. */
#define _GNU_SOURCE
#include "floor.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

#define TRY(call)                                                                                                      \
    do                                                                                                                 \
        if ((call) < 0) {                                                                                              \
            fprintf(stderr, "floor: %s: %s\n", #call, strerror(errno));                                                \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    while (0)

static void put(int dir, const char *path, const char *text) {
    int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    TRY(fd);
    TRY(write(fd, text, strlen(text)));
    close(fd);
}

static void mount_root(const struct world *world, const struct box *box) {
    char path[64], options[2048];
    snprintf(path, sizeof path, "/s/%s", box->id);
    TRY(mkdir(path, 0700));
    snprintf(path, sizeof path, "/s/%s/u", box->id);
    TRY(mkdir(path, 0755));
    snprintf(path, sizeof path, "/s/%s/w", box->id);
    TRY(mkdir(path, 0755));
    snprintf(options, sizeof options, "userxattr,volatile,upperdir=/s/%s/u,workdir=/s/%s/w,lowerdir=%s%s%s", box->id,
             box->id, box->lower, box->lower[0] ? ":" : "", world->lower);
    TRY(mount("floor", "/m", "overlay", MS_NODEV | MS_NOSUID, options));
}

/* Returns one that can be written to; programs get a copy that can't. */
static int mount_proc(const struct world *world) {
    int fs = sys_fsopen("proc", SYS_FSOPEN_CLOEXEC);
    TRY(fs);
    TRY(sys_fsconfig(fs, SYS_FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    int proc =
        sys_fsmount(fs, SYS_FSMOUNT_CLOEXEC, SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV | SYS_MOUNT_ATTR_NOEXEC);
    TRY(proc);
    close(fs);
    TRY(sys_move_mount(proc, "", AT_FDCWD, "/proc", SYS_MOVE_MOUNT_F_EMPTY_PATH));
    int copy = sys_open_tree(proc, "", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    TRY(copy);
    struct sys_mount_attr read_only = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    TRY(sys_mount_setattr(copy, "", AT_EMPTY_PATH, &read_only));
    TRY(sys_move_mount(copy, "", AT_FDCWD, "/m/proc", SYS_MOVE_MOUNT_F_EMPTY_PATH));
    close(copy);
    for (uint32_t i = 0; i < world->host.nmasks; i++) {
        char path[64];
        snprintf(path, sizeof path, "/m/proc/%s", world->host.masks[i].name);
        TRY(mount(world->host.masks[i].is_dir ? "/e" : "/dev/null", path, NULL, MS_BIND, NULL));
    }
    return proc;
}

static void move(const char *from, const char *to) {
    int tree = open(from, O_PATH | O_CLOEXEC);
    TRY(tree);
    TRY(sys_move_mount(tree, "", AT_FDCWD, to, SYS_MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
}

static void mount_rest(const struct world *world) {
    move("/dev", "/m/dev");
    TRY(mount("devpts", "/m/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
    TRY(mount("tmpfs", "/m/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,nr_inodes=16384,mode=1777"));
    for (int i = 0; i < world->nbinds; i++) {
        char target[256];
        snprintf(target, sizeof target, "/m/%s", world->binds[i].target);
        move(world->binds[i].place, target);
    }
    if (mkdir("/m/testbed", 0755) < 0 && errno != EEXIST)
        TRY(-1);
}

static void pivot(void) {
    TRY(chdir("/m"));
    TRY(sys_pivot_root(".", "."));
    TRY(umount2(".", MNT_DETACH));
    TRY(chdir("/"));
}

static void lower_privileges(const struct world *world, int proc) {
    static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};
    TRY(unshare(CLONE_NEWUSER));
    put(proc, "self/setgroups", "deny");
    put(proc, "self/uid_map", "0 0 1");
    put(proc, "self/gid_map", "0 0 1");
    for (size_t i = 0; i < LIS_COUNT(kinds); i++) {
        char path[64];
        snprintf(path, sizeof path, "sys/user/max_%s_namespaces", kinds[i]);
        put(proc, path, "0");
    }
    TRY(setrlimit(RLIMIT_NPROC, &(struct rlimit){1041, 1041}));
    for (int capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
        ;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    TRY(syscall(SYS_capset, &header, none));
    TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    TRY(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    struct sock_fprog program = {world->filter.length, (struct sock_filter *)(uintptr_t)world->filter.code};
    TRY(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static void run(const char *script, const int fds[2]) __attribute__((noreturn));
static void run(const char *script, const int fds[2]) {
    char *const of_script[] = {"/bin/bash", "-c", (char *)(uintptr_t)script, NULL};
    char *const of_true[] = {"/bin/true", NULL};
    char *const *argv = script ? of_script : of_true;
    static char *const envp[] = {"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                 "LANG=C.UTF-8", NULL};
    setsid();
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    TRY(dup2(null, 0));
    TRY(dup2(fds[0], 1));
    TRY(dup2(fds[1], 2));
    TRY(chdir("/testbed"));
    execve(argv[0], argv, envp);
    _exit(127);
}

static void serve(const char *script, int sock) __attribute__((noreturn));
static void serve(const char *script, int sock) {
    int fds[LIS_MAX_FDS], nfds, status;
    char byte = 'r';
    TRY(send(sock, &byte, 1, MSG_NOSIGNAL));
    while (nfds = 0, lis_receive(sock, 0, &byte, 1, fds, &nfds) == 1 && nfds == 2) {
        pid_t pid = fork();
        if (pid == 0)
            run(script, fds);
        close(fds[0]);
        close(fds[1]);
        TRY(pid);
        TRY(LIS_RETRY(waitpid(pid, &status, 0)));
        TRY(send(sock, &status, sizeof status, MSG_NOSIGNAL));
    }
    _exit(0);
}

static void become(const struct world *world, const struct box *box, int sock, int network) __attribute__((noreturn));
static void become(const struct world *world, const struct box *box, int sock, int network) {
    TRY(unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | (network < 0 ? CLONE_NEWNET : 0)));
    if (network >= 0)
        TRY(setns(network, CLONE_NEWNET));
    mount_root(world, box);
    int proc = mount_proc(world);
    mount_rest(world);
    pivot();
    TRY(sethostname("sandbox", 7));
    if (network < 0) {
        int inet = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
        TRY(ioctl(inet, SIOCSIFFLAGS, &lo));
    }
    lower_privileges(world, proc);
    TRY(dup2(sock, 3));
    sys_close_range(4, ~0u, 0);
    serve(world->script, 3);
}

int floor_create(struct world *world, struct box *box) {
    int pair[2], network = lis_network_take(&world->networks);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    box->pid = sys_fork_into(CLONE_NEWPID, -1, SIGCHLD);
    if (box->pid == 0)
        become(world, box, pair[1], network);
    int err = errno;
    close(pair[1]);
    lis_close(network);
    box->sock = pair[0];
    if (box->pid < 0)
        close(pair[0]);
    return box->pid < 0 ? -err : 0;
}

int floor_ready(struct box *box) {
    char byte;
    return recv(box->sock, &byte, 1, 0) == 1 ? 0 : -ECHILD;
}

int floor_exec_begin(struct box *box, struct run *run) {
    int out[2], err[2], sent;
    char byte = 'x';
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        return -errno;
    sent = lis_send(box->sock, &byte, 1, (int[]){out[1], err[1]}, 2);
    close(out[1]);
    close(err[1]);
    run->out[0] = out[0];
    run->out[1] = err[0];
    return sent;
}

int floor_exec_end(struct box *box, struct run *run) {
    int status;
    char bytes[4096];
    ssize_t got = recv(box->sock, &status, sizeof status, 0);
    for (int i = 0; i < 2; i++) {
        while (LIS_RETRY(read(run->out[i], bytes, sizeof bytes)) > 0)
            ;
        close(run->out[i]);
    }
    return got == sizeof status ? status : -ECHILD;
}

int floor_destroy_begin(struct box *box) {
    return kill(box->pid, SIGKILL) < 0 ? -errno : 0;
}

int floor_destroy_end(struct box *box) {
    char byte;
    return recv(box->sock, &byte, 1, 0) == 0 || errno == ECONNRESET ? 0 : -errno;
}

int floor_reap(struct box *box) {
    close(box->sock);
    return LIS_RETRY(waitpid(box->pid, NULL, 0)) < 0 ? -errno : 0;
}

int floor_fork(struct world *world, struct box *box, struct box *twin) {
    char from[64], to[64];
    int r = floor_destroy_begin(box);
    r = r == 0 ? floor_reap(box) : r;
    if (r < 0)
        return r;
    snprintf(from, sizeof from, "/s/%s/u", box->id);
    snprintf(to, sizeof to, "/s/%.13sl", box->id);
    if (rename(from, to) < 0)
        return -errno;
    snprintf(box->lower, sizeof box->lower, "%s", to);
    snprintf(twin->lower, sizeof twin->lower, "%s", to);
    box->id[0] = 'a';              /* a name of its own: the kernel may still be at work in the old one's directory */
    r = floor_create(world, twin); /* first: it is what a fork is waited for, and the other one goes on by itself */
    if (r == 0)
        r = floor_create(world, box);
    if (r == 0)
        r = floor_ready(twin);
    return r;
}
