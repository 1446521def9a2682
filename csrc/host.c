/* The spawner's own namespaces.
 *
 * U0      the outer user namespace; owns all that follows, so that a sandbox's nested one has power over none of it
 * outer   a mount namespace that still sees the host; layers and mounts are copied out of it when first asked for
 * lean    the one the spawner lives in: a tmpfs with /s (this owner's scratch directory), /l/0.. (layers), /dev
 *         (template), /proc, /e (empty, and read-only), /m (where the child builds its root) and /p (where it builds its /proc). clone(CLONE_NEWNS) copies every mount, and a
 *         cluster node has hundreds of them; this one has a dozen. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "sys.h"
#include "util.h"

int lis_host_enter_user_namespace(const struct lis_id_ranges *ranges, struct lis_fault *fault) {
    if (ranges)
        return lis_enter_with_ranges(ranges, fault);
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWUSER) < 0)
        return lis_fail(fault, LIS_STAGE_USER_NAMESPACE, errno, NULL);
    cleanup_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int r = proc < 0 ? -errno : lis_map_ids(proc, 0, 0, uid, gid);
    return r < 0 ? lis_fail(fault, LIS_STAGE_ID_MAP, -r, NULL) : 0;
}

/* A new file system, not attached anywhere yet. `options` are name, value pairs up to a NULL. */
static int new_mount(const char *type, const char *const options[], unsigned attributes) {
    cleanup_fd int fs = sys_fsopen(type, SYS_FSOPEN_CLOEXEC);
    if (fs < 0)
        return -errno;
    for (size_t i = 0; options[i]; i += 2)
        if (sys_fsconfig(fs, SYS_FSCONFIG_SET_STRING, options[i], options[i + 1], 0) < 0)
            return -errno;
    if (sys_fsconfig(fs, SYS_FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -errno;
    int mount_fd = sys_fsmount(fs, SYS_FSMOUNT_CLOEXEC, attributes);
    return mount_fd < 0 ? -errno : mount_fd;
}

static int attach(int mount_fd, int dir, const char *path) {
    return sys_move_mount(mount_fd, "", dir, path, SYS_MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

static const struct {
    const char *name;
    unsigned major, minor;
} devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

static const struct {
    const char *name, *target;
} device_links[] = {{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
                    {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"},         {"core", "/proc/kcore"}};

static int bind_device(int dev, const char *name, unsigned major, unsigned minor, struct lis_fault *fault) {
    char path[32];
    snprintf(path, sizeof path, "/dev/%s", name);
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, path, SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC);
    struct stat st;
    if (tree < 0 || fstat(tree, &st) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, path);
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(major, minor))
        return lis_fail(fault, LIS_STAGE_DEV, ENODEV, path);
    cleanup_fd int place = openat(dev, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (place < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, path);
    int r = attach(tree, dev, name);
    return r < 0 ? lis_fail(fault, LIS_STAGE_DEV, -r, path) : 0;
}

/* One /dev for all sandboxes: read-only, so that they share no writable place. /dev/pts and /dev/shm are their own. */
static int make_dev(int root, struct lis_fault *fault) {
    const char *const options[] = {"mode", "0755", "size", "64k", NULL};
    cleanup_fd int tmpfs = new_mount("tmpfs", options, SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NOEXEC);
    if (tmpfs < 0)
        return lis_fail(fault, LIS_STAGE_DEV, -tmpfs, "/dev");
    int r = attach(tmpfs, root, "dev");
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_DEV, -r, "/dev");
    for (size_t i = 0; i < LIS_COUNT(devices); i++) {
        r = bind_device(tmpfs, devices[i].name, devices[i].major, devices[i].minor, fault);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < LIS_COUNT(device_links); i++)
        if (symlinkat(device_links[i].target, tmpfs, device_links[i].name) < 0)
            return lis_fail(fault, LIS_STAGE_DEV, errno, device_links[i].name);
    if (mknodat(tmpfs, LIS_DEV_CERTIFICATES, S_IFREG | 0444, 0) < 0 || mkdirat(tmpfs, "pts", 0755) < 0 ||
        mkdirat(tmpfs, "shm", 01777) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev");
    /* The devices' own mounts, too: they are the host's nodes, and one that root has started could chmod them. What is
     * written to a device is no write to its file system. */
    struct sys_mount_attr read_only = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    if (sys_mount_setattr(tmpfs, "", AT_EMPTY_PATH | SYS_AT_RECURSIVE, &read_only) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev");
    return 0;
}

int lis_host_protect_devices(struct lis_fault *fault) {
    struct sys_mount_attr read_only = {.attr_set = SYS_MOUNT_ATTR_RDONLY};
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev, as root");
    for (size_t i = 0; i < LIS_COUNT(devices); i++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/%s", devices[i].name);
        cleanup_fd int tree = sys_open_tree(AT_FDCWD, path, SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC);
        if (tree < 0 || sys_mount_setattr(tree, "", AT_EMPTY_PATH, &read_only) < 0 || attach(tree, AT_FDCWD, path) < 0)
            return lis_fail(fault, LIS_STAGE_DEV, errno, path);
    }
    return 0;
}

/* The kernel lets us mount a /proc only where an unmasked one is visible, so the lean namespace keeps one. It shows the
 * spawner's pid namespace, not the host's. */
static int make_proc(int root, struct lis_fault *fault) {
    const char *const options[] = {NULL};
    cleanup_fd int proc =
        new_mount("proc", options, SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV | SYS_MOUNT_ATTR_NOEXEC);
    int r = proc < 0 ? proc : attach(proc, root, "proc");
    return r < 0 ? lis_fail(fault, LIS_STAGE_PROC, -r, "/proc") : 0;
}

/* What directories of /proc are hidden under. */
static int make_empty(int root, struct lis_fault *fault) {
    const char *const options[] = {"mode", "0555", "size", "4k", NULL};
    cleanup_fd int tmpfs = new_mount(
        "tmpfs", options, SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV | SYS_MOUNT_ATTR_NOEXEC | SYS_MOUNT_ATTR_RDONLY);
    int r = tmpfs < 0 ? tmpfs : attach(tmpfs, root, "e");
    return r < 0 ? lis_fail(fault, LIS_STAGE_PROC, -r, "/e") : 0;
}

static const char *const private_in_proc[] = {LIS_PRIVATE_IN_PROC};

static void choose_masks(struct lis_host *host) {
    for (size_t i = 0; i < LIS_COUNT(private_in_proc); i++) {
        char path[32];
        snprintf(path, sizeof path, "/proc/%s", private_in_proc[i]);
        struct stat st;
        if (stat(path, &st) < 0 || access(path, R_OK) < 0 || host->nmasks == LIS_MAX_MASKS)
            continue;
        host->masks[host->nmasks++] = (struct lis_mask){private_in_proc[i], S_ISDIR(st.st_mode)};
    }
}

/* Private, in the same call: into a copy that went on receiving the host's mounts, they would come without the limits. */
static int restrict_mount(int tree, bool writable) {
    struct sys_mount_attr attr = {
        .attr_set = SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV | (writable ? 0 : SYS_MOUNT_ATTR_RDONLY),
        .propagation = MS_PRIVATE,
    };
    return sys_mount_setattr(tree, "", AT_EMPTY_PATH | SYS_AT_RECURSIVE, &attr) < 0 ? -errno : 0;
}

/* All unpacked layers of this host's images, with one mount. */
static int show_trees(const char *owner_path, int root) {
    char path[PATH_MAX];
    const char *name = strrchr(owner_path, '/');
    int length = name ? (int)(name - owner_path) : 0;
    if (snprintf(path, sizeof path, "%.*s" LIS_TREES, length, owner_path) >= (int)sizeof path)
        return -ENAMETOOLONG;
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, path, SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return errno == ENOENT ? 0 : -errno; /* then layers from there are mounted one by one, as others are */
    int r = restrict_mount(tree, false);
    return r < 0 ? r : attach(tree, root, "t");
}

static int make_lean_root(const char *owner_path, struct lis_fault *fault) {
    cleanup_fd int scratch =
        sys_open_tree(AT_FDCWD, owner_path, SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC | SYS_AT_RECURSIVE);
    if (scratch < 0)
        return lis_fail(fault, LIS_STAGE_SCRATCH, errno, owner_path);
    const char *const options[] = {"mode", "0755", "size", "1m", NULL};
    cleanup_fd int root = new_mount("tmpfs", options, SYS_MOUNT_ATTR_NOSUID | SYS_MOUNT_ATTR_NODEV);
    if (root < 0)
        return lis_fail(fault, LIS_STAGE_MOUNT_NAMESPACE, -root, "tmpfs");
    /* any directory will do to attach it to: the namespace is left by pivot_root below */
    int r = attach(root, AT_FDCWD, owner_path);
    static const char *const places[] = {"s", "l", "t", "m", "e", "p", "dev", "proc"};
    for (size_t i = 0; r == 0 && i < LIS_COUNT(places); i++)
        if (mkdirat(root, places[i], 0755) < 0)
            r = -errno;
    if (r == 0)
        r = attach(scratch, root, "s");
    if (r == 0)
        r = show_trees(owner_path, root);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_MOUNT_NAMESPACE, -r, owner_path);
    r = make_proc(root, fault);
    if (r == 0)
        r = make_dev(root, fault);
    if (r == 0)
        r = make_empty(root, fault);
    if (r < 0)
        return r;
    if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return lis_fail(fault, LIS_STAGE_PIVOT, errno, NULL);
    return 0;
}

/* Mounting an overlay is not enough: some file systems mount and then fail at the first whiteout or opaque directory. */
static int probe_overlay(struct lis_fault *fault) {
    static const char probe[] = "/s/probe";
    int r = 0;
    if (mkdir(probe, 0700) < 0 || mkdir("/s/probe/lower", 0700) < 0 || mkdir("/s/probe/upper", 0700) < 0 ||
        mkdir("/s/probe/work", 0700) < 0)
        r = lis_fail(fault, LIS_STAGE_SCRATCH, errno, NULL);
    else if (setxattr("/s/probe/upper", "user.overlay.opaque", "y", 1, 0) < 0)
        r = lis_fail(fault, LIS_STAGE_OVERLAY_PROBE, errno, "extended attributes (user.*)");
    else if (mknod("/s/probe/upper/whiteout", S_IFCHR, 0) < 0)
        r = lis_fail(fault, LIS_STAGE_OVERLAY_PROBE, errno, "whiteout");
    else if (mount("overlay", "/m", "overlay", 0, /* volatile: else its umount syncs the host's whole file system */
                   "lowerdir=/s/probe/lower,upperdir=/s/probe/upper,workdir=/s/probe/work,userxattr,volatile") < 0)
        r = lis_fail(fault, LIS_STAGE_OVERLAY_PROBE, errno, "mount");
    else
        umount2("/m", MNT_DETACH);
    lis_remove_tree(AT_FDCWD, probe);
    return r;
}

int lis_host_open(struct lis_host *host, const char *owner_path, int owner_dir, struct lis_fault *fault) {
    host->owner_dir = owner_dir;
    host->owner_path = owner_path;
    host->nmasks = 0;
    choose_masks(host);
    /* slave: file systems that the host mounts later (autofs) still arrive, nothing of ours goes back */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return lis_fail(fault, LIS_STAGE_MOUNT_NAMESPACE, errno, NULL);
    host->outer_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (host->outer_mounts < 0)
        return lis_fail(fault, LIS_STAGE_PROC, errno, "/proc/self/ns/mnt");
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return lis_fail(fault, LIS_STAGE_MOUNT_NAMESPACE, errno, NULL);
    int r = make_lean_root(owner_path, fault);
    if (r < 0)
        return r;
    host->lean_mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (host->lean_mounts < 0)
        return lis_fail(fault, LIS_STAGE_PROC, errno, "/proc/self/ns/mnt");
    return probe_overlay(fault);
}

/* Paths come canonical from Python; a link in them means that somebody has changed the way since. */
static int copy_mount(const struct lis_host *host, const char *path) {
    if (setns(host->outer_mounts, CLONE_NEWNS) < 0)
        return -errno;
    int tree = -EBADF;
    cleanup_fd int place =
        sys_openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0, SYS_RESOLVE_NO_SYMLINKS | SYS_RESOLVE_NO_MAGICLINKS);
    if (place >= 0)
        tree = sys_open_tree(place, "", SYS_OPEN_TREE_CLONE | SYS_OPEN_TREE_CLOEXEC | SYS_AT_RECURSIVE | AT_EMPTY_PATH);
    int r = tree < 0 ? -errno : tree;
    /* never seen to fail; but in the wrong namespace there is nothing safe to do */
    if (setns(host->lean_mounts, CLONE_NEWNS) < 0)
        abort();
    return r;
}

/* The name of something directly inside a directory. NULL: it lies elsewhere. */
static const char *name_inside(const char *path, const char *dir, size_t length) {
    if (strncmp(path, dir, length) != 0 || path[length] != '/')
        return NULL;
    const char *name = path + length + 1;
    return *name && *name != '.' && !strchr(name, '/') ? name : NULL;
}

/* On /l/INDEX. A link where it can be: every mount here is copied for every sandbox. */
static int show_layer(struct lis_host *host, const char *path, const char *place) {
    const char *owner = strrchr(host->owner_path, '/'), *name = NULL;
    char trees[PATH_MAX], target[NAME_MAX + 8];
    int length = snprintf(trees, sizeof trees, "%.*s" LIS_TREES, (int)(owner - host->owner_path), host->owner_path);
    if (length < (int)sizeof trees)
        name = name_inside(path, trees, (size_t)length);
    if (name && snprintf(target, sizeof target, "/t/%s", name) < (int)sizeof target && access(target, F_OK) == 0)
        return symlink(target, place) < 0 ? -errno : 0;
    cleanup_fd int tree = copy_mount(host, path);
    if (tree < 0)
        return tree;
    if (mkdir(place, 0755) < 0 && errno != EEXIST)
        return -errno;
    int r = restrict_mount(tree, false);
    return r < 0 ? r : attach(tree, AT_FDCWD, place);
}

/* What could not be given a number: the next one gets this place. */
static void hide_layer(const char *place) {
    if (unlink(place) < 0 && umount2(place, MNT_DETACH) == 0)
        rmdir(place);
}

int lis_host_layer(struct lis_host *host, const char *path, struct lis_fault *fault) {
    if (name_inside(path, host->owner_path, strlen(host->owner_path)))
        return LIS_LAYER_OF_OWNER;
    int number = lis_names_find(&host->layers, path);
    if (number >= 0)
        return number;
    char place[32];
    snprintf(place, sizeof place, "/l/%u", host->layers.count);
    int r = show_layer(host, path, place);
    number = r < 0 ? r : lis_names_add(&host->layers, path);
    if (number < 0)
        hide_layer(place);
    return number < 0 ? lis_fail(fault, LIS_STAGE_LAYER, -number, path) : number;
}

int lis_host_mount(struct lis_host *host, const char *path, bool writable, struct lis_fault *fault) {
    cleanup_fd int tree = copy_mount(host, path);
    if (tree < 0)
        return lis_fail(fault, LIS_STAGE_MOUNT_SOURCE, -tree, path);
    int r = restrict_mount(tree, writable);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_MOUNT_SOURCE, -r, path);
    return lis_take_fd(&tree);
}
