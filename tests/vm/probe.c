/* What an ordinary user in a user namespace of its own may do with cgroups below PARENT, a directory with the controllers
 * memory, pids and cpu enabled for its children. PARENT is read from stdin. Prints `step value` lines; a value is `ok`, the name of
 * an errno, or what was read. test_host.py judges them. A step that fails is printed, and what needs it is left out. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1u << 20)
#define PATIENCE_MS 30000

static void say(const char *step, const char *value) {
    dprintf(STDOUT_FILENO, "%s %s\n", step, value); /* one write: parent and child both talk */
}

static void say_number(const char *step, long value) {
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    say(step, text);
}

/* Prints how a system call went; returns its result. */
static long tell(const char *step, long result) {
    int error = errno;
    say(step, result < 0 ? strerrorname_np(error) : "ok");
    errno = error;
    return result;
}

static int put(int dir, const char *name, const char *text) {
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t wrote = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return wrote < 0 ? -1 : 0;
}

/* The number after `key` in a file of `key number` lines, or with an empty key the file's first number; -1 if none. */
static long number(int fd, const char *key) {
    char text[4096];
    ssize_t got = pread(fd, text, sizeof text - 1, 0);
    if (got < 0)
        return -1;
    text[got] = 0;
    if (!*key)
        return strtol(text, NULL, 10);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ' ')
            return strtol(line + strlen(key), NULL, 10);
    return -1;
}

static long number_in(int dir, const char *name, const char *key) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    long value = fd < 0 ? -1 : number(fd, key);
    if (fd >= 0)
        close(fd);
    return value;
}

/* Becomes root of a new user namespace, by name: one id, mapped to this process's own. */
static int become_root(int more) {
    char map[64], group[64];
    snprintf(map, sizeof map, "0 %u 1", geteuid());
    snprintf(group, sizeof group, "0 %u 1", getegid());
    if (unshare(CLONE_NEWUSER | more))
        return -1;
    if (put(AT_FDCWD, "/proc/self/setgroups", "deny") && errno != EPERM) /* below another such namespace it is denied */
        return -1;
    return put(AT_FDCWD, "/proc/self/uid_map", map) || put(AT_FDCWD, "/proc/self/gid_map", group) ? -1 : 0;
}

static pid_t clone_into(int cgroup, uint64_t flags) {
    struct clone_args arguments = {
        .flags = CLONE_INTO_CGROUP | flags, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static void own_cgroup(const char *step) {
    char text[PATH_MAX] = "";
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got - 1 : 0] = 0;
    say(step, text);
}

static pid_t start_bomb(size_t bytes) {
    pid_t pid = fork();
    if (pid == 0) {
        char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            _exit(2);
        memset(memory, 1, bytes);
        _exit(0);
    }
    return pid;
}

/* As PID 1: whether the limits can be lifted from inside. `path` is the cgroup by the host's mount, which a careless
 * sandbox would show; /mnt becomes a mount of the namespace's own. */
static void try_to_break_out(const char *path) {
    int outside = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    tell("init.before-cgroup-namespace.write-memory.max", put(outside, "memory.max", "33554432"));
    own_cgroup("init.before-cgroup-namespace.path");
    if (tell("init.unshare-cgroup", unshare(CLONE_NEWCGROUP)) < 0)
        return;
    own_cgroup("init.path");
    tell("init.mount-cgroup2", mount("cgroup2", "/mnt", "cgroup2", 0, NULL));
    if (tell("init.nested-user-namespace", become_root(0)) < 0)
        return;
    int inside = open("/mnt", O_PATH | O_DIRECTORY | O_CLOEXEC);
    tell("init.mount-has-memory.max", faccessat(inside, "memory.max", F_OK, 0));
    tell("init.write-memory.max", put(inside, "memory.max", "max"));
    tell("init.write-pids.max", put(inside, "pids.max", "max"));
    tell("init.write-memory.oom.group", put(inside, "memory.oom.group", "0"));
    tell("init.mkdir-child", mkdirat(inside, "child", 0700));
    tell("init.write-cgroup.kill-of-child", put(inside, "child/cgroup.kill", "1"));
    tell("init.move-to-child", put(inside, "child/cgroup.procs", "0"));
    tell("init.move-back", put(inside, "cgroup.procs", "0"));
    tell("init.rmdir-child", unlinkat(inside, "child", AT_REMOVEDIR));
    tell("init.host-path.write-memory.max", put(outside, "memory.max", "max"));
    tell("init.host-path.move-to-parent", put(outside, "../cgroup.procs", "0"));
    close(inside);
    close(outside);
}

static void fill_pids(void) {
    pid_t made[64];
    size_t count = 0;
    while (count < sizeof made / sizeof *made && (made[count] = fork()) > 0)
        count++;
    if (count < sizeof made / sizeof *made && made[count] == 0) {
        pause();
        _exit(0);
    }
    tell("init.fork-beyond-pids.max", count < sizeof made / sizeof *made ? -1 : 0);
    say_number("init.forks", (long)count);
    while (count--) {
        kill(made[count], SIGKILL);
        waitpid(made[count], NULL, 0);
    }
}

/* As PID 1 without power over its cgroup: sees by an inherited descriptor that the kernel has killed a child. */
static void watch_a_bomb(int events, int peak) {
    struct epoll_event interest = {.events = EPOLLPRI}, got;
    int watch = epoll_create1(EPOLL_CLOEXEC);
    say_number("init.events.oom_kill-at-first", number(events, "oom_kill"));
    tell("init.epoll-add", epoll_ctl(watch, EPOLL_CTL_ADD, events, &interest));
    say_number("init.epoll-before", epoll_wait(watch, &got, 1, 0));
    pid_t bomb = start_bomb(64 * MIB);
    long wakes = 0;
    int ready, status = 0;
    while ((ready = epoll_wait(watch, &got, 1, PATIENCE_MS)) == 1 && ++wakes && number(events, "oom_kill") < 1)
        continue;
    tell("init.epoll-says-oom_kill", ready == 1 ? 0 : -1);
    say_number("init.epoll-flags", ready == 1 ? (long)got.events : 0);
    say_number("init.epoll-wakes", wakes);
    waitpid(bomb, &status, 0);
    say_number("init.bomb-signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    for (int turn = 0; turn < 100 && epoll_wait(watch, &got, 1, 10) == 1; turn++)
        number(events, ""); /* reading arms it again; the kernel may tell of the last changes a little late */
    say_number("init.epoll-after-reading", epoll_wait(watch, &got, 1, 0));
    bomb = start_bomb(64 * MIB);
    waitpid(bomb, NULL, 0);
    say_number("init.events.oom_kill-at-reaping", number(events, "oom_kill"));
    say_number("init.memory.peak", number(peak, ""));
}

static void init_of_box(const char *path, int events, int peak, int done) {
    say_number("init.pid", getpid());
    try_to_break_out(path);
    fill_pids();
    watch_a_bomb(events, peak);
    write(done, "", 1);
    for (;;)
        pause();
}

static int make_box(int parent, const char *name, const char *group) {
    tell("mkdir", mkdirat(parent, name, 0700));
    int box = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tell("write-memory.max", put(box, "memory.max", "33554432"));
    tell("write-memory.swap.max", put(box, "memory.swap.max", "0"));
    tell("write-pids.max", put(box, "pids.max", "16"));
    tell("write-cpu.max", put(box, "cpu.max", "100000 100000"));
    tell("write-memory.oom.group", put(box, "memory.oom.group", group));
    return box;
}

/* Right after its last process was reaped. Where that is too early, cgroup.events tells when it no longer is. */
static void remove_box(int parent, const char *name, int box) {
    if (tell("rmdir-at-once", unlinkat(parent, name, AT_REMOVEDIR)) == 0)
        return;
    struct epoll_event interest = {.events = EPOLLPRI}, got;
    int watch = epoll_create1(EPOLL_CLOEXEC), events = openat(box, "cgroup.events", O_RDONLY | O_CLOEXEC);
    epoll_ctl(watch, EPOLL_CTL_ADD, events, &interest);
    while (number(events, "populated") == 1 && epoll_wait(watch, &got, 1, PATIENCE_MS) == 1)
        continue;
    tell("rmdir-when-empty", unlinkat(parent, name, AT_REMOVEDIR));
}

static void one_box(const char *path, int parent) {
    int pipes[2], box = make_box(parent, "box", "0"), status = 0;
    char byte, inner[PATH_MAX];
    snprintf(inner, sizeof inner, "%s/box", path);
    int by_name = open(inner, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int events = openat(box, "memory.events", O_RDONLY | O_CLOEXEC);
    int peak = openat(box, "memory.peak", O_RDONLY | O_CLOEXEC);
    tell("open-memory.events", events);
    tell("open-memory.peak", peak);
    if (pipe(pipes))
        return;
    pid_t pid = clone_into(by_name, CLONE_NEWPID | CLONE_NEWNS);
    if (pid == 0)
        init_of_box(inner, events, peak, pipes[1]);
    close(pipes[1]);
    if (tell("clone3-into-cgroup-by-O_PATH", pid) > 0) {
        if (read(pipes[0], &byte, 1) != 1)
            say("init", "died");
        say_number("memory.peak", number(peak, ""));
        say_number("memory.events.oom_kill", number(events, "oom_kill"));
        say_number("pids.events.max", number_in(box, "pids.events", "max"));
        say_number("cpu.stat.usage_usec", number_in(box, "cpu.stat", "usage_usec"));
        say_number("cgroup.events.populated", number_in(box, "cgroup.events", "populated"));
        if (tell("write-cgroup.kill", put(box, "cgroup.kill", "1")) < 0)
            kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        say_number("init-signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    remove_box(parent, "box", box);
}

/* memory.oom.group: one process too big, and all of the box dies, its PID 1 included. */
static void group_box(int parent) {
    int box = make_box(parent, "group", "1"), status = 0;
    pid_t pid = clone_into(box, CLONE_NEWPID | CLONE_NEWCGROUP);
    if (pid == 0) {
        own_cgroup("clone3-with-new-cgroup-namespace.path");
        tell("clone3-with-new-cgroup-namespace.write-memory.max", put(box, "memory.max", "max"));
        waitpid(start_bomb(64 * MIB), NULL, 0);
        _exit(0);
    }
    if (tell("clone3-into-cgroup", pid) > 0) {
        waitpid(pid, &status, 0);
        say_number("group.init-signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        say_number("group.events.oom_kill", number_in(box, "memory.events", "oom_kill"));
        say_number("group.events.oom_group_kill", number_in(box, "memory.events", "oom_group_kill"));
        say_number("group.memory.peak", number_in(box, "memory.peak", ""));
    }
    remove_box(parent, "group", box);
}

/* A spawner that has a cgroup namespace of its own can't reach the boxes beside its cgroup. */
static void from_own_namespace(int parent) {
    int box = make_box(parent, "beside", "0"), status;
    pid_t spawner = fork();
    if (spawner == 0) {
        if (tell("own-namespace.unshare", unshare(CLONE_NEWCGROUP)) == 0) {
            pid_t pid = clone_into(box, 0);
            if (pid == 0)
                _exit(0);
            if (tell("own-namespace.clone3-into-cgroup", pid) > 0)
                waitpid(pid, NULL, 0);
        }
        _exit(0);
    }
    waitpid(spawner, &status, 0);
    remove_box(parent, "beside", box);
}

int main(void) {
    char path[PATH_MAX / 2] = "";
    tell("user-namespace", become_root(CLONE_NEWNS));
    if (!fgets(path, sizeof path, stdin)) /* only now: whoever started this may move it to another cgroup first */
        return 2;
    path[strcspn(path, "\n")] = 0;
    own_cgroup("spawner.path");
    int parent = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tell("open-parent", parent) < 0)
        return 1;
    one_box(path, parent);
    group_box(parent);
    from_own_namespace(parent);
    return 0;
}
