/* Probes of file systems: overlays on a scratch directory, tmpfs, cgroup directories. */
#define _GNU_SOURCE
#include "probe.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "sys.h"
#include "util.h"

static int put(int dir, const char *path, mode_t mode, const void *data, size_t size) {
    cleanup_fd int fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    ssize_t written = LIS_RETRY(write(fd, data, size));
    return written == (ssize_t)size ? 0 : written < 0 ? -errno : -ENOSPC;
}

/* A script is refused on a noexec file system like any program, and needs no copy of one. */
static int execute(int dir, const char *name) {
    int r = put(dir, name, 0755, "#!/bin/true\n", 12);
    if (r < 0)
        return r;
    cleanup_fd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 12, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    munmap(page, 12);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        char *argv[] = {"true", NULL}, *env[] = {NULL};
        fchdir(dir) < 0 ? 0 : execve(name, argv, env);
        _exit(errno == ENOENT ? 0 : errno); /* ENOENT: it would have run, had this host a /bin/true */
    }
    int status = 0;
    if (LIS_RETRY(waitpid(pid, &status, 0)) < 0)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EACCES;
}

static int make_layers(int dir) {
    static const char *const names[] = {"lower", "upper", "work", "merged", "lower/dir"};
    for (size_t i = 0; i < LIS_COUNT(names); i++)
        if (mkdirat(dir, names[i], 0755) < 0)
            return -errno;
    static const char *const files[] = {"lower/dir/old", "lower/gone", "lower/changed"};
    for (size_t i = 0; i < LIS_COUNT(files); i++) {
        int r = put(dir, files[i], 0644, "x", 1);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Some file systems mount as an upper and then fail at the first whiteout or opaque directory. */
static int use_overlay(int merged, int upper, struct lis_outcome *out) {
    struct stat st;
    char opaque = 0;
    if (put(merged, "changed", 0644, "yy", 2) < 0 || fstatat(upper, "changed", &st, 0) < 0)
        return lis_fails(out, errno, "copy a file up");
    if (unlinkat(merged, "gone", 0) < 0 || fstatat(upper, "gone", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR(st.st_mode))
        return lis_fails(out, errno, "make a whiteout");
    if (unlinkat(merged, "dir/old", 0) < 0 || unlinkat(merged, "dir", AT_REMOVEDIR) < 0 ||
        mkdirat(merged, "dir", 0755) < 0)
        return lis_fails(out, errno, "replace a directory");
    cleanup_fd int dir = openat(upper, "dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || fgetxattr(dir, "user.overlay.opaque", &opaque, 1) != 1 || opaque != 'y')
        return lis_fails(out, errno, "make an opaque directory");
    if (faccessat(merged, "dir/old", F_OK, 0) == 0)
        return lis_fails(out, 0, "an opaque directory shows what is below it");
    int r = execute(merged, "program");
    if (r < 0)
        return lis_fails(out, -r, "run a program");
    return lis_works(out, "whiteouts, opaque directories and programs work");
}

static int overlay(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe;
    if (lis_probe_enter(CLONE_NEWNS, out) < 0)
        return -1;
    if (chdir(place) < 0)
        return lis_fails(out, errno, "open it");
    int r = make_layers(AT_FDCWD);
    if (r < 0)
        return lis_fails(out, -r, "make files");
    if (setxattr("upper", "user.overlay.opaque", "y", 1, 0) < 0 || removexattr("upper", "user.overlay.opaque") < 0)
        return lis_fails(out, errno, "set user.* attributes");
    if (mount("overlay", "merged", "overlay", MS_NODEV | MS_NOSUID,
              "userxattr,volatile,lowerdir=lower,upperdir=upper,workdir=work") < 0)
        return lis_fails(out, errno, "mount an overlay");
    cleanup_fd int merged = open("merged", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_fd int upper = open("upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (merged < 0 || upper < 0)
        return lis_fails(out, errno, "open an overlay");
    return use_overlay(merged, upper, out);
}

static int enter_tmpfs(struct lis_outcome *out) {
    if (lis_probe_enter(CLONE_NEWNS, out) < 0)
        return -1;
    if (mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,nr_inodes=8") < 0)
        return lis_fails(out, errno, "mount it");
    return chdir("/proc") < 0 ? lis_fails(out, errno, "open it") : 0;
}

/* Writes pages until the file system is full, or 32 of them. 0, or -errno of the one that did not fit. */
static int fill(const char *path) {
    const char page[4096] = "x";
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    for (int i = 0; i < 32; i++)
        if (LIS_RETRY(write(fd, page, sizeof page)) < 0)
            return -errno;
    return 0;
}

static int tmpfs(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    char name[16];
    if (enter_tmpfs(out) < 0)
        return -1;
    int r = fill("big");
    if (r != -ENOSPC)
        return lis_fails(out, r < 0 ? -r : 0, "hold its size");
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "%d", i);
        r = put(AT_FDCWD, name, 0600, "", 0);
    }
    if (r != -ENOSPC)
        return lis_fails(out, r < 0 ? -r : 0, "hold its number of files");
    return lis_works(out, "size and number of files are held");
}

static int tmpfs_attributes(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (enter_tmpfs(out) < 0)
        return -1;
    if (mkdir("dir", 0755) < 0 || setxattr("dir", "user.overlay.opaque", "y", 1, 0) < 0)
        return lis_fails(out, errno, "set user.* attributes");
    return lis_works(out, "user.* attributes work");
}

/* One name and value for each thing that a limit needs; v1 and v2 differ in names only. */
static const struct {
    const char *what, *file, *value;
} knobs[] = {{"memory", "memory.max", "1073741824"},
             {"swap", "memory.swap.max", "0"},
             {"oom-group", "memory.oom.group", "1"},
             {"pids", "pids.max", "100"},
             {"cpu", "cpu.max", "50000 100000"},
             {"kill", "cgroup.kill", "1"},
             {"memory", "memory.limit_in_bytes", "1073741824"},
             {"cpu", "cpu.cfs_quota_us", "50000"},
             {"freezer", "freezer.state", "THAWED"}};

/* Sets what can be set in a new child, then joins it. Says which limits took. */
static int cgroup(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe;
    char set[100] = "";
    cleanup_fd int dir = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return lis_fails(out, errno, "open it");
    for (size_t i = 0; i < LIS_COUNT(knobs); i++)
        if (lis_write_file(dir, knobs[i].file, knobs[i].value) == 0)
            snprintf(set + strlen(set), sizeof set - strlen(set), "%s%s", set[0] ? " " : "", knobs[i].what);
    int r = lis_write_file(dir, "cgroup.procs", "0");
    if (r < 0)
        return lis_fails(out, -r, "join a child cgroup");
    return lis_works(out, "%s", set);
}

const struct lis_probe lis_file_probes[] = {
    {.name = "overlay", .run = overlay, .place = LIS_PLACE_DIRECTORY},
    {.name = "tmpfs", .run = tmpfs},
    {.name = "tmpfs-attributes", .run = tmpfs_attributes},
    {.name = "cgroup", .run = cgroup, .place = LIS_PLACE_CGROUP},
    {.name = NULL},
};
