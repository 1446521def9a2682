/* Carries out a decoded plan in the child that becomes PID 1: one function a step, in the order of the plan, after what ahead.c
 * has made.
 *
 * A root may be the work of untrusted code (snapshots), so every mount point is opened below the root without following
 * any link, and mounts are attached by descriptor, never by path. */
#define _GNU_SOURCE
#include "setup.h"

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

static int attach(const struct context *ctx, int mount_fd, const char *target, bool is_file) {
    cleanup_fd int place = lis_open_target(ctx->root, target, is_file, true, NULL);
    if (place < 0)
        return lis_fail(ctx->fault, LIS_STAGE_MOUNT_POINT, -place, target);
    if (sys_move_mount(mount_fd, "", place, "", SYS_MOVE_MOUNT_F_EMPTY_PATH | SYS_MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_MOUNT, errno, target);
    return 0;
}

/* Apart from the others, because sites forbid this one alone; and in the child, because it is the slow one: network.c. */
static int step_network(struct context *ctx, const struct lis_step *step) {
    if (!(step->a & CLONE_NEWNET))
        return 0;
    cleanup_fd int network = ctx->network;
    ctx->is_up = network >= 0 && setns(network, CLONE_NEWNET) == 0;
    if (!ctx->is_up && unshare(CLONE_NEWNET) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_NETWORK_NAMESPACE, errno, NULL);
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
    /* volatile: nothing is synced, on unmount least of all: that would sync the whole file system below */
    int length =
        snprintf(options, sizeof options, "userxattr,volatile,upperdir=/s/%s/u,workdir=/s/%s/w,lowerdir=", id, id);
    for (uint32_t i = 0; i < step->nstrings && length < (int)sizeof options; i++) {
        uint32_t index = ctx->resources->layers[step->first + i];
        const char *name = strrchr(lis_text(ctx, step, i), '/'), *separator = i == 0 ? "" : ":";
        if (index == LIS_LAYER_OF_OWNER)
            length += snprintf(options + length, sizeof options - (size_t)length, "%s/s%s", separator, name);
        else
            length += snprintf(options + length, sizeof options - (size_t)length, "%s/l/%u", separator, index);
    }
    if (length >= (int)sizeof options)
        return lis_fail(ctx->fault, LIS_STAGE_OVERLAY, E2BIG, "/");
    /* what `lisrt ps` knows the image by; lisrt/emulation.py puts a layer above many, which says nothing */
    const char *topmost = strrchr(lis_text(ctx, step, 0), '/') + 1;
    if (strcmp(topmost, ".emulation") == 0 && step->nstrings > 1)
        topmost = strrchr(lis_text(ctx, step, 1), '/') + 1;
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
        return lis_fail(ctx->fault, LIS_STAGE_MOUNT_SOURCE, errno, lis_text(ctx, step, 0));
    return attach(ctx, tree, lis_text(ctx, step, 1), !S_ISDIR(st.st_mode));
}

/* What ahead.c has made. Closed, or a low limit on open files would not leave enough for the steps after it. */
static int step_made(struct context *ctx, const struct lis_step *step) {
    cleanup_fd int made = ctx->made[step - ctx->resources->plan->steps];
    return attach(ctx, made, lis_text(ctx, step, 0), false);
}

static int step_dev(struct context *ctx, const struct lis_step *step) {
    cleanup_fd int dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dev < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DEV, errno, lis_text(ctx, step, 0));
    return attach(ctx, dev, lis_text(ctx, step, 0), false);
}

/* Whether it is in the root's own overlay, and not in something of the host's that is mounted there. */
static bool is_of_root(const struct context *ctx, int dir) {
    struct stat root, st;
    return fstat(ctx->root, &root) == 0 && fstat(dir, &st) == 0 && root.st_dev == st.st_dev;
}

static int step_directory(struct context *ctx, const struct lis_step *step) {
    bool made = false;
    cleanup_fd int place = lis_open_target(ctx->root, lis_text(ctx, step, 0), false, true, &made);
    if (place < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, -place, lis_text(ctx, step, 0));
    const bool exact = step->b & 1, given = step->b & 2;
    bool owned = step->c && (made || given) && is_of_root(ctx, place);
    struct stat st;
    if (fstat(place, &st) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, errno, lis_text(ctx, step, 0));
    /* of one that was not made it may be the host's own, by way of a writable mount; and a chmod that changes nothing copies the
     * directory up: /tmp, for every sandbox */
    bool differs = (made || exact) && (st.st_mode & 07777) != (mode_t)step->a;
    if (!differs && !owned)
        return 0;
    cleanup_fd int dir = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* fchmod refuses O_PATH */
    if (dir < 0 || (differs && fchmod(dir, (mode_t)step->a) < 0))
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, errno, lis_text(ctx, step, 0));
    if (owned && fchown(dir, (uid_t)(step->c >> 32), (gid_t)step->c) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_DIRECTORY, errno, lis_text(ctx, step, 0));
    return 0;
}

/* The layer below stays writable: for whoever made it, and for a snapshot. */
static int step_read_only(struct context *ctx, const struct lis_step *step) {
    (void)step;
    struct sys_mount_attr read_only = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    return sys_mount_setattr(ctx->root, "", AT_EMPTY_PATH | SYS_AT_RECURSIVE, &read_only) < 0
               ? lis_fail(ctx->fault, LIS_STAGE_READ_ONLY, errno, "/")
               : 0;
}

static int step_hostname(struct context *ctx, const struct lis_step *step) {
    const char *name = lis_text(ctx, step, 0);
    return sethostname(name, strlen(name)) < 0 ? lis_fail(ctx->fault, LIS_STAGE_HOSTNAME, errno, name) : 0;
}

static int step_loopback(struct context *ctx, const struct lis_step *step) {
    (void)step;
    int r = ctx->is_up ? 0 : lis_loopback_up();
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
    /* without it, abstract sockets of the host are in reach: Python says which it is */
    int scoped = step->a & LIS_FILTER_LOCAL_SOCKETS ? lis_stay_among_own_sockets() : 0;
    if (scoped < 0 && scoped != -ENOSYS && scoped != -EOPNOTSUPP && scoped != -EINVAL && scoped != -E2BIG)
        return lis_fail(ctx->fault, LIS_STAGE_FILTER, -scoped, "landlock");
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
    [LIS_STEP_NAMESPACES] = step_network,
    [LIS_STEP_OVERLAY] = step_overlay,
    [LIS_STEP_BIND] = step_bind,
    [LIS_STEP_PROC] = step_made,
    [LIS_STEP_DEV] = step_dev,
    [LIS_STEP_DEVPTS] = step_made,
    [LIS_STEP_TMPFS] = step_made,
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
    [LIS_STEP_READ_ONLY] = step_read_only,
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
    struct context ctx = {
        .resources = resources, .fault = fault, .root = -EBADF, .proc = -EBADF, .network = resources->network};
    int r = lis_make_ahead(&ctx);
    if (r == 0 && resources->is_follower)
        r = lis_wait_for_turn(&ctx);
    if (r == 0)
        r = carry_out(&ctx);
    lis_close(ctx.proc);
    return r;
}

static bool needs_no_privilege(uint16_t kind) {
    return kind == LIS_STEP_RLIMIT || kind == LIS_STEP_CPUS || kind == LIS_STEP_PIDS;
}

int lis_setup_rest(const struct lis_plan *plan, uint32_t number, struct lis_fault *fault) {
    cleanup_free struct lis_filter *filter = malloc(sizeof *filter);
    const struct lis_resources resources = {.plan = plan, .number = number, .filter = filter};
    struct context ctx = {.resources = &resources, .fault = fault, .root = -EBADF, .proc = -EBADF, .network = -EBADF};
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
