/* What can be made of a sandbox before it has a root. A sandbox that follows another one (a snapshot, a fork, a reset) does
 * this while the other still ends: of the two milliseconds that a snapshot took it was a quarter. */
#define _GNU_SOURCE
#include "setup.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "sys.h"
#include "util.h"

#define COVERED_PROC "/p"

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

static int make_namespaces(struct context *ctx, const struct lis_step *step) {
    int flags = CLONE_NEWNS | ((int)step->a & ~CLONE_NEWNET); /* that one is for later: setup.c */
    return unshare(flags) < 0 ? lis_fail(ctx->fault, LIS_STAGE_NAMESPACES, errno, NULL) : 0;
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
static int make_writable_layer(struct context *ctx, const struct lis_step *step) {
    const uint64_t tmpfs_size = step->a;
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

static int hide(const struct context *ctx, const struct lis_mask *mask) {
    char path[64];
    snprintf(path, sizeof path, COVERED_PROC "/%s", mask->name);
    cleanup_fd int cover =
        sys_open_tree(AT_FDCWD, mask->is_dir ? "/e" : "/dev/null", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC);
    if (cover < 0 || sys_move_mount(cover, "", AT_FDCWD, path, SYS_MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return lis_fail(ctx->fault, LIS_STAGE_PROC, errno, path);
    return 0;
}

/* Read-only: root inside is, by its number outside, the owner of the network's and the ipc namespace's settings below
 * /proc/sys too, and the file modes there are all that guards them. */
static int make_proc(struct context *ctx, const struct lis_step *step) {
    const char *target = lis_text(ctx, step, 0);
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
    int copy = sys_open_tree(writable, "", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    struct sys_mount_attr read_only = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    /* attached for the covers: on what is not, older kernels mount nothing */
    if (copy < 0 || sys_mount_setattr(copy, "", AT_EMPTY_PATH, &read_only) < 0 ||
        sys_move_mount(copy, "", AT_FDCWD, COVERED_PROC, SYS_MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        int err = errno;
        lis_close(copy);
        return lis_fail(ctx->fault, LIS_STAGE_PROC, err, target);
    }
    ctx->made[step - ctx->resources->plan->steps] = copy;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < ctx->resources->host->nmasks; i++)
        r = hide(ctx, &ctx->resources->host->masks[i]);
    return r;
}

static int make_devpts(struct context *ctx, const struct lis_step *step) {
    static const struct option options[] = {{"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0620"}};
    return ctx->made[step - ctx->resources->plan->steps] =
               make_mount(ctx, "devpts", options, LIS_COUNT(options), SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NOEXEC,
                          lis_text(ctx, step, 0), LIS_STAGE_DEVPTS);
}

static int make_tmpfs(struct context *ctx, const struct lis_step *step) {
    char size[24], inodes[24], mode[24];
    snprintf(size, sizeof size, "%llu", (unsigned long long)step->a);
    snprintf(inodes, sizeof inodes, "%llu", (unsigned long long)step->b);
    snprintf(mode, sizeof mode, "%llo", (unsigned long long)step->c);
    const struct option options[] = {{"size", size}, {"nr_inodes", inodes}, {"mode", mode}};
    return ctx->made[step - ctx->resources->plan->steps] =
               make_mount(ctx, "tmpfs", options, LIS_COUNT(options), SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV,
                          lis_text(ctx, step, 0), LIS_STAGE_TMPFS);
}

static int (*const functions[LIS_STEP_KINDS])(struct context *, const struct lis_step *) = {
    [LIS_STEP_NAMESPACES] = make_namespaces,
    [LIS_STEP_OVERLAY] = make_writable_layer,
    [LIS_STEP_PROC] = make_proc,
    [LIS_STEP_DEVPTS] = make_devpts,
    [LIS_STEP_TMPFS] = make_tmpfs,
};

/* What was made is not closed on failure: then this process ends. */
int lis_make_ahead(struct context *ctx) {
    const struct lis_plan *plan = ctx->resources->plan;
    int r = 0;
    for (uint32_t i = 0; r >= 0 && i < plan->nsteps; i++)
        if (functions[plan->steps[i].kind])
            r = functions[plan->steps[i].kind](ctx, &plan->steps[i]);
    return r < 0 ? r : 0;
}

/* Ended, and not just killed: until its last process has left its root, that overlay writes to the layer that is to lie below
 * ours now, and the kernel warns of it. */
int lis_wait_for_turn(struct context *ctx) {
    struct lis_header message;
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t size = lis_receive(LIS_SPAWNER_CONTROL, 0, &message, sizeof message, fds, &nfds);
    if (size < 0 || lis_message_kind(&message, size) != LIS_GO) /* nobody wants it any more */
        return lis_fail(ctx->fault, LIS_STAGE_REQUEST, size < 0 ? (int)-size : EPROTO, "go");
    if (nfds > 0)
        ctx->network = fds[0];
    struct pollfd ends[] = {{.fd = ctx->resources->followed, .events = POLLIN}, {.fd = LIS_SPAWNER_CONTROL}};
    while (ends[0].fd >= 0 && !ends[0].revents)
        if (LIS_RETRY(poll(ends, LIS_COUNT(ends), -1)) < 0 || ends[1].revents)
            return lis_fail(ctx->fault, LIS_STAGE_REQUEST, ECANCELED, "go");
    lis_close(ends[0].fd);
    return 0;
}
