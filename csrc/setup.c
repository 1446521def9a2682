/* Carries out a decoded plan in the child that becomes PID 1: one function a step, in the order of the plan.
 *
 * A root may be the work of untrusted code (snapshots), so every mount point is opened below the root without following
 * any link, and mounts are attached by descriptor, never by path. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "sys.h"
#include "util.h"

struct context {
    const struct lis_resources *resources;
    struct lis_fault *fault;
    int root; /* the new root, once its overlay is mounted */
    int proc; /* a /proc that is writable; the one that programs see is not */
};

static const char *text(const struct context *ctx, const struct lis_step *step, uint32_t i) {
    return lis_string(ctx->resources->plan, step, i);
}

static int attach(const struct context *ctx, int mount_fd, const char *target, bool is_file) {
    cleanup_fd int place = lis_open_target(ctx->root, target, is_file, true, NULL);
    if (place < 0)
        return lis_fail(ctx->fault, LIS_STAGE_MOUNT_POINT, -place, target);
    if (sys_move_mount(mount_fd, "", place, "", SYS_MOVE_MOUNT_F_EMPTY_PATH | SYS_MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_MOUNT, errno, target);
    return 0;
}

struct option {
    const char *name, *value;
};

/* A new file system, not attached anywhere yet. */
static int make_mount(const struct context *ctx, const char *type, const struct option *options, size_t noptions,
                      unsigned attributes, const char *target, enum lis_stage stage) {
    cleanup_fd int fs = sys_fsopen(type, SYS_FSOPEN_CLOEXEC);
    if (fs < 0)
        return lis_fail(ctx->fault, stage, errno, target);
    for (size_t i = 0; i < noptions; i++) {
        unsigned command = options[i].value ? SYS_FSCONFIG_SET_STRING : SYS_FSCONFIG_SET_FLAG;
        if (sys_fsconfig(fs, command, options[i].name, options[i].value, 0) < 0)
            return lis_fail(ctx->fault, stage, errno, target);
    }
    if (sys_fsconfig(fs, SYS_FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return lis_fail(ctx->fault, stage, errno, target);
    int mount_fd = sys_fsmount(fs, SYS_FSMOUNT_CLOEXEC, attributes);
    return mount_fd < 0 ? lis_fail(ctx->fault, stage, errno, target) : mount_fd;
}

static int mount_new(const struct context *ctx, const char *type, const struct option *options, size_t noptions,
                     unsigned attributes, const char *target, enum lis_stage stage) {
    cleanup_fd int mount_fd = make_mount(ctx, type, options, noptions, attributes, target, stage);
    return mount_fd < 0 ? mount_fd : attach(ctx, mount_fd, target, false);
}

static int step_namespaces(struct context *ctx, const struct lis_step *step) {
    int flags = (int)step->a;
    if (unshare(CLONE_NEWNS | (flags & ~CLONE_NEWNET)) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_NAMESPACES, errno, NULL);
    /* apart, because sites forbid this one alone; and in the child, because it is the slow one: network.c */
    int network = ctx->resources->network;
    if (flags & CLONE_NEWNET && (network < 0 || setns(network, CLONE_NEWNET) < 0) && unshare(CLONE_NEWNET) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_NETWORK_NAMESPACE, errno, NULL);
    return 0;
}

/* In this sandbox's mount namespace alone: it goes with that. */
static int mount_memory(struct context *ctx, const char *path, uint64_t size) {
    char bytes[24], files[24];
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)size);
    snprintf(files, sizeof files, "%llu",
             (unsigned long long)(size / 4096 + 1024)); /* an inode takes memory beyond the size */
    const struct option options[] = {{"size", bytes}, {"nr_inodes", files}, {"mode", "0700"}};
    cleanup_fd int tmpfs = make_mount(ctx, "tmpfs", options, LIS_COUNT(options),
                                      SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV, path, LIS_STAGE_WRITABLE_LAYER);
    if (tmpfs < 0)
        return tmpfs;
    return sys_move_mount(tmpfs, "", AT_FDCWD, path, SYS_MOVE_MOUNT_F_EMPTY_PATH) < 0
               ? lis_fail(ctx->fault, LIS_STAGE_WRITABLE_LAYER, errno, path)
               : 0;
}

/* The writable layer lies in /s/ID: u, and w for the kernel's own use. No directory more than that: each inode made and
 * deleted is dear on some file systems (ext4 without a journal looks at all recently deleted ones). */
static int make_writable_layer(struct context *ctx, uint64_t tmpfs_size) {
    static const char *const parts[] = {"", "/u", "/w"};
    char path[LIS_ID_SIZE + 8];
    for (size_t i = 0; i < LIS_COUNT(parts); i++) {
        snprintf(path, sizeof path, "/s/%s%s", ctx->resources->id, parts[i]);
        if (mkdir(path, i ? 0755 : 0700) < 0)
            return lis_fail(ctx->fault, LIS_STAGE_WRITABLE_LAYER, errno, ctx->resources->id);
        int r = i == 0 && tmpfs_size ? mount_memory(ctx, path, tmpfs_size) : 0;
        if (r < 0)
            return r;
    }
    /* not before Linux 6.6: overlayfs would mount, and fail at the first directory that hides another */
    if (tmpfs_size && (setxattr(path, "user.lisrt", "", 0, 0) < 0 || removexattr(path, "user.lisrt") < 0))
        return lis_fail(ctx->fault, LIS_STAGE_OVERLAY_PROBE, errno, "extended attributes (user.*) on tmpfs");
    return 0;
}

/* Where there is no room for its work directory, overlayfs mounts all the same, but read-only. */
static int check_writable(const struct context *ctx) {
    char path[LIS_ID_SIZE + 16];
    struct statvfs fs;
    if (fstatvfs(ctx->root, &fs) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_OVERLAY, errno, "/");
    if (!(fs.f_flag & ST_RDONLY))
        return 0;
    snprintf(path, sizeof path, "/s/%s/w/room", ctx->resources->id);
    int err = mkdir(path, 0700) < 0 ? errno : EROFS;
    return lis_fail(ctx->fault, LIS_STAGE_WRITABLE_LAYER, err, ctx->resources->id);
}

static int step_overlay(struct context *ctx, const struct lis_step *step) {
    const char *id = ctx->resources->id;
    char options[4096];
    int r = make_writable_layer(ctx, step->a);
    if (r < 0)
        return r;
    /* volatile: nothing is synced, on unmount least of all: that would sync the whole file system below */
    int length =
        snprintf(options, sizeof options, "userxattr,volatile,upperdir=/s/%s/u,workdir=/s/%s/w,lowerdir=", id, id);
    for (uint32_t i = 0; i < step->nstrings && length < (int)sizeof options; i++) {
        uint32_t index = ctx->resources->layers[step->first + i];
        const char *name = strrchr(text(ctx, step, i), '/'), *separator = i == 0 ? "" : ":";
        if (index == LIS_LAYER_OF_OWNER)
            length += snprintf(options + length, sizeof options - (size_t)length, "%s/s%s", separator, name);
        else
            length += snprintf(options + length, sizeof options - (size_t)length, "%s/l/%u", separator, index);
    }
    if (length >= (int)sizeof options)
        return lis_fail(ctx->fault, LIS_STAGE_OVERLAY, E2BIG, "/");
    /* what `lisrt ps` knows the image by; lisrt/emulation.py puts a layer above many, which says nothing */
    const char *topmost = strrchr(text(ctx, step, 0), '/') + 1;
    if (strcmp(topmost, ".emulation") == 0 && step->nstrings > 1)
        topmost = strrchr(text(ctx, step, 1), '/') + 1;
    if (mount(topmost, "/m", "overlay", MS_NODEV | MS_NOSUID, options) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_OVERLAY, errno, "/");
    ctx->root = open("/m", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return ctx->root < 0 ? lis_fail(ctx->fault, LIS_STAGE_OVERLAY, errno, "/") : check_writable(ctx);
}

static int step_bind(struct context *ctx, const struct lis_step *step) {
    int tree = ctx->resources->mounts[step - ctx->resources->plan->steps];
    cleanup_fd int layer = -EBADF;
    /* this namespace has its own copy of the spawner's mount, which can just move */
    if (step->a == LIS_BIND_OF_IMAGE) {
        char place[32];
        snprintf(place, sizeof place, "/l/%u", ctx->resources->layers[step->first]);
        tree = layer = open(place, O_PATH | O_CLOEXEC);
    }
    struct stat st;
    if (tree < 0 || fstat(tree, &st) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_MOUNT_SOURCE, errno, text(ctx, step, 0));
    return attach(ctx, tree, text(ctx, step, 1), !S_ISDIR(st.st_mode));
}

static int hide(const struct context *ctx, const char *proc, const struct lis_mask *mask) {
    char path[4096 + 32];
    snprintf(path, sizeof path, "%s/%s", proc, mask->name);
    cleanup_fd int cover =
        sys_open_tree(AT_FDCWD, mask->is_dir ? "/e" : "/dev/null", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC);
    return cover < 0 ? lis_fail(ctx->fault, LIS_STAGE_PROC, errno, path) : attach(ctx, cover, path, !mask->is_dir);
}

/* Read-only: root inside is, by its number outside, the owner of the network's and the ipc namespace's settings below
 * /proc/sys too, and the file modes there are all that guards them. */
static int step_proc(struct context *ctx, const struct lis_step *step) {
    const char *target = text(ctx, step, 0);
    const unsigned attributes = SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV | SYS_MOUNT_ATTR_NOEXEC;
    int writable = make_mount(ctx, "proc", NULL, 0, attributes, target, LIS_STAGE_PROC);
    if (writable < 0)
        return writable;
    lis_close(ctx->proc);
    ctx->proc = writable;
    /* Out of the way, in what the pivot leaves behind: we write to this one, programs get a copy that is read-only. Not to
     * the spawner's: there the settings of all sandboxes' namespaces have the same names in one directory, and looking one up
     * passes all the others (with 512 alive creation took twice as long). */
    if (sys_move_mount(writable, "", AT_FDCWD, "/proc", SYS_MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_PROC, errno, target);
    cleanup_fd int copy = sys_open_tree(writable, "", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    struct sys_mount_attr read_only = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    if (copy < 0 || sys_mount_setattr(copy, "", AT_EMPTY_PATH, &read_only) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_PROC, errno, target);
    int r = attach(ctx, copy, target, false);
    for (uint32_t i = 0; r == 0 && i < ctx->resources->host->nmasks; i++)
        r = hide(ctx, target, &ctx->resources->host->masks[i]);
    return r;
}

static int step_dev(struct context *ctx, const struct lis_step *step) {
    cleanup_fd int dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dev < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DEV, errno, text(ctx, step, 0));
    return attach(ctx, dev, text(ctx, step, 0), false);
}

static int step_devpts(struct context *ctx, const struct lis_step *step) {
    static const struct option options[] = {{"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0620"}};
    return mount_new(ctx, "devpts", options, LIS_COUNT(options), SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NOEXEC,
                     text(ctx, step, 0), LIS_STAGE_DEVPTS);
}

static int step_tmpfs(struct context *ctx, const struct lis_step *step) {
    char size[24], inodes[24], mode[24];
    snprintf(size, sizeof size, "%llu", (unsigned long long)step->a);
    snprintf(inodes, sizeof inodes, "%llu", (unsigned long long)step->b);
    snprintf(mode, sizeof mode, "%llo", (unsigned long long)step->c);
    const struct option options[] = {{"size", size}, {"nr_inodes", inodes}, {"mode", mode}};
    return mount_new(ctx, "tmpfs", options, LIS_COUNT(options), SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV,
                     text(ctx, step, 0), LIS_STAGE_TMPFS);
}

/* Whether it is in the root's own overlay, and not in something of the host's that is mounted there. */
static bool is_of_root(const struct context *ctx, int dir) {
    struct stat root, st;
    return fstat(ctx->root, &root) == 0 && fstat(dir, &st) == 0 && root.st_dev == st.st_dev;
}

static int step_directory(struct context *ctx, const struct lis_step *step) {
    bool made = false;
    cleanup_fd int place = lis_open_target(ctx->root, text(ctx, step, 0), false, true, &made);
    if (place < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, -place, text(ctx, step, 0));
    const bool exact = step->b & 1, given = step->b & 2;
    bool owned = step->c && (made || given) && is_of_root(ctx, place);
    struct stat st;
    if (fstat(place, &st) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, errno, text(ctx, step, 0));
    /* of one that was not made it may be the host's own, by way of a writable mount; and a chmod that changes nothing copies the
     * directory up: /tmp, for every sandbox */
    bool differs = (made || exact) && (st.st_mode & 07777) != (mode_t)step->a;
    if (!differs && !owned)
        return 0;
    cleanup_fd int dir = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* fchmod refuses O_PATH */
    if (dir < 0 || (differs && fchmod(dir, (mode_t)step->a) < 0))
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, errno, text(ctx, step, 0));
    if (owned && fchown(dir, (uid_t)(step->c >> 32), (gid_t)step->c) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, errno, text(ctx, step, 0));
    return 0;
}

static int step_hostname(struct context *ctx, const struct lis_step *step) {
    const char *name = text(ctx, step, 0);
    return sethostname(name, strlen(name)) < 0 ? lis_fail(ctx->fault, LIS_STAGE_HOSTNAME, errno, name) : 0;
}

static int step_loopback(struct context *ctx, const struct lis_step *step) {
    (void)step;
    int r = lis_loopback_up();
    return r < 0 ? lis_fail(ctx->fault, LIS_STAGE_LOOPBACK, -r, "lo") : 0;
}

static int step_rlimit(struct context *ctx, const struct lis_step *step) {
    struct rlimit limit = {.rlim_cur = step->b, .rlim_max = step->c};
    return setrlimit((__rlimit_resource_t)step->a, &limit) < 0 ? lis_fail(ctx->fault, LIS_STAGE_RLIMIT, errno, NULL)
                                                               : 0;
}

/* System V segments live on without a process, where the watchdog can't see them: their sum has a limit of its own. */
static int step_memory(struct context *ctx, const struct lis_step *step) {
    char pages[24];
    if (step->c == LIS_BY_CGROUP)
        return 0; /* this process is in it */
    snprintf(pages, sizeof pages, "%llu", (unsigned long long)step->a / 2 / (unsigned long long)sysconf(_SC_PAGESIZE));
    int r = lis_write_file(ctx->proc, "sys/kernel/shmall", pages);
    return r < 0 && r != -ENOENT ? lis_fail(ctx->fault, LIS_STAGE_LIMIT, -r, "kernel.shmall") : 0;
}

/* Where there is no group: as many whole CPUs, the next ones for each sandbox, out of those that we may use. */
static int step_cpus(struct context *ctx, const struct lis_step *step) {
    cpu_set_t ours, chosen;
    if (step->c == LIS_BY_CGROUP)
        return 0;
    if (sched_getaffinity(0, sizeof ours, &ours) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_LIMIT, errno, "cpus");
    size_t count = (size_t)CPU_COUNT(&ours), wanted = (size_t)((step->a + 999) / 1000);
    size_t first = (size_t)ctx->resources->number * wanted % count;
    CPU_ZERO(&chosen);
    for (size_t cpu = 0, at = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &ours) && (at++ + count - first) % count < wanted)
            CPU_SET(cpu, &chosen);
    return sched_setaffinity(0, sizeof chosen, &chosen) < 0 ? lis_fail(ctx->fault, LIS_STAGE_LIMIT, errno, "cpus") : 0;
}

/* Counted in each user namespace (since 5.14), so that others' processes don't matter. Commands get less (tree.c). */
static int step_pids(struct context *ctx, const struct lis_step *step) {
    rlim_t most = step->a + 1 + LIS_RESERVED_PIDS;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NPROC, &limit) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_LIMIT, errno, "pids");
    most = most < limit.rlim_max ? most : limit.rlim_max;
    return setrlimit(RLIMIT_NPROC, &(struct rlimit){most, most}) < 0
               ? lis_fail(ctx->fault, LIS_STAGE_LIMIT, errno, "pids")
               : 0;
}

static int step_disk(struct context *ctx, const struct lis_step *step) {
    (void)ctx; /* the disk watchdog has it from the account */
    (void)step;
    return 0;
}

/* Last of the namespaces: from here on this process owns none of the others. */
static int step_user(struct context *ctx, const struct lis_step *step) {
    const struct lis_host *host = ctx->resources->host;
    if (step->c && !host->uids) /* the spawner has one id to give */
        return lis_fail(ctx->fault, LIS_STAGE_REQUEST, EPROTO, "user");
    if (step->c)
        return lis_enter_with_all_ids(ctx->proc, host->uids, host->gids, ctx->fault);
    if (unshare(CLONE_NEWUSER) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_NESTED_USER_NAMESPACE, errno, NULL);
    int r = lis_map_ids(ctx->proc, (uid_t)step->a, (gid_t)step->b, 0, 0);
    return r < 0 ? lis_fail(ctx->fault, LIS_STAGE_NESTED_USER_NAMESPACE, -r, "id map") : 0;
}

static int step_no_nesting(struct context *ctx, const struct lis_step *step) {
    (void)step; /* the table that /proc/sys/user shows is that of the reader's own user namespace */
    static const char *const kinds[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"};
    for (size_t i = 0; i < LIS_COUNT(kinds); i++) {
        char path[64];
        snprintf(path, sizeof path, "sys/user/max_%s_namespaces", kinds[i]);
        int r = lis_write_file(ctx->proc, path, "0");
        if (r < 0 && !(r == -ENOENT && strcmp(kinds[i], "time") == 0)) /* a kernel may be built without */
            return lis_fail(ctx->fault, LIS_STAGE_NO_NESTING, -r, path);
    }
    return 0;
}

static int step_filter(struct context *ctx, const struct lis_step *step) {
    (void)step; /* the spawner has assembled it */
    int r = lis_filter_load(ctx->resources->filter);
    return r < 0 ? lis_fail(ctx->fault, LIS_STAGE_FILTER, -r, NULL) : 0;
}

static int drop_privileges(struct context *ctx) {
    const struct lis_step *user = lis_find_step(ctx->resources->plan, LIS_STEP_USER);
    int r = lis_drop_privileges(user && user->c ? LIS_KEPT_BY_INIT : 0);
    return r < 0 ? lis_fail(ctx->fault, LIS_STAGE_PRIVILEGES, -r, NULL) : 0;
}

static int pivot(struct context *ctx) {
    if (fchdir(ctx->root) < 0 || sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return lis_fail(ctx->fault, LIS_STAGE_PIVOT, errno, NULL);
    lis_close(lis_take_fd(&ctx->root));
    return 0;
}

static int (*const step_functions[LIS_STEP_KINDS])(struct context *, const struct lis_step *) = {
    [LIS_STEP_NAMESPACES] = step_namespaces,
    [LIS_STEP_OVERLAY] = step_overlay,
    [LIS_STEP_BIND] = step_bind,
    [LIS_STEP_PROC] = step_proc,
    [LIS_STEP_DEV] = step_dev,
    [LIS_STEP_DEVPTS] = step_devpts,
    [LIS_STEP_TMPFS] = step_tmpfs,
    [LIS_STEP_DIRECTORY] = step_directory,
    [LIS_STEP_HOSTNAME] = step_hostname,
    [LIS_STEP_LOOPBACK] = step_loopback,
    [LIS_STEP_RLIMIT] = step_rlimit,
    [LIS_STEP_USER] = step_user,
    [LIS_STEP_NO_NESTING] = step_no_nesting,
    [LIS_STEP_MEMORY] = step_memory,
    [LIS_STEP_PIDS] = step_pids,
    [LIS_STEP_CPUS] = step_cpus,
    [LIS_STEP_DISK] = step_disk,
    [LIS_STEP_FILTER] = step_filter,
};

/* What lies between a phase and the next. */
static int enter_phase(struct context *ctx, enum lis_phase from, enum lis_phase to) {
    int r = 0;
    if (from <= LIS_PHASE_FILES && to > LIS_PHASE_FILES)
        r = pivot(ctx);
    if (r == 0 && from < LIS_PHASE_POWERLESS && to == LIS_PHASE_POWERLESS)
        r = drop_privileges(ctx);
    return r;
}

static int carry_out(struct context *ctx) {
    const struct lis_plan *plan = ctx->resources->plan;
    enum lis_phase phase = LIS_PHASE_NAMESPACES;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < plan->nsteps; i++) {
        const struct lis_step *step = &plan->steps[i];
        r = enter_phase(ctx, phase, lis_step_phase(step->kind));
        phase = lis_step_phase(step->kind);
        if (r == 0)
            r = step_functions[step->kind](ctx, step);
    }
    return r == 0 ? enter_phase(ctx, phase, LIS_PHASE_POWERLESS) : r;
}

int lis_setup(const struct lis_resources *resources, struct lis_fault *fault) {
    struct context ctx = {.resources = resources, .fault = fault, .root = -EBADF, .proc = -EBADF};
    int r = carry_out(&ctx);
    lis_close(ctx.proc);
    return r;
}

static bool needs_no_privilege(uint16_t kind) {
    return kind == LIS_STEP_RLIMIT || kind == LIS_STEP_CPUS || kind == LIS_STEP_PIDS;
}

int lis_setup_rest(const struct lis_plan *plan, uint32_t number, struct lis_fault *fault) {
    cleanup_free struct lis_filter *filter = malloc(sizeof *filter);
    const struct lis_resources resources = {.plan = plan, .number = number, .filter = filter};
    struct context ctx = {.resources = &resources, .fault = fault, .root = -EBADF, .proc = -EBADF};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < plan->nsteps; i++)
        if (needs_no_privilege(plan->steps[i].kind))
            r = step_functions[plan->steps[i].kind](&ctx, &plan->steps[i]);
    if (r == 0)
        r = drop_privileges(&ctx);
    const struct lis_step *step = lis_find_step(plan, LIS_STEP_FILTER);
    if (r < 0 || !step)
        return r;
    int built = filter ? lis_filter_build((unsigned)step->a, filter) : -ENOMEM;
    return built < 0 ? lis_fail(fault, LIS_STAGE_FILTER, -built, NULL) : step_filter(&ctx, step);
}
