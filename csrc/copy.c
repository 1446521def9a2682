/* A root for bubblewrap where it can't mount overlays: the layers, copied one over the other.
 *
 * No hard links, although they would be quicker: what is linked is shared, and a sandbox may change what is in its root. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "sys.h"
#include "util.h"

#define MAX_DEPTH 128 /* each level keeps descriptors open */

static int copy_directory(int from, int to, bool onto, int depth);

/* From the files' offsets on. */
static int copy_bytes(int from, int to, off_t length) {
    while (length > 0) {
        /* some kernels can't across file systems, and a file system may not know how: then by way of memory */
        size_t most = length < INT_MAX ? (size_t)length : INT_MAX;
        ssize_t done = copy_file_range(from, NULL, to, NULL, most, 0);
        if (done < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS))
            done = sendfile(to, from, NULL, most);
        if (done <= 0)
            return done < 0 ? -errno : 0;
        length -= done;
    }
    return 0;
}

/* Holes stay holes: a program makes a file of a terabyte in no time. */
static int copy_contents(int from, int to, off_t size) {
    for (off_t at = 0, hole; at < size; at = hole) {
        at = lseek(from, at, SEEK_DATA);
        hole = at < 0 ? -1 : lseek(from, at, SEEK_HOLE);
        if (at < 0 && errno == ENXIO)
            break; /* nothing but a hole is left */
        if (at < 0 || hole < 0 || lseek(from, at, SEEK_SET) < 0 || lseek(to, at, SEEK_SET) < 0)
            return -errno;
        int r = copy_bytes(from, to, hole - at);
        if (r < 0)
            return r;
    }
    return ftruncate(to, size) < 0 ? -errno : 0;
}

/* A layer's file or directory, readable or not: it is ours, and a program in a sandbox chose its mode. The mode it had is
 * put back by lower(). */
static int open_lifted(int dir, const char *name, int flags, mode_t mode, bool *ret_lifted) {
    mode_t needed = flags & O_DIRECTORY ? 0500 : 0400;
    cleanup_fd int holder = (mode & needed) != needed ? lis_lift(dir, name, flags & O_DIRECTORY, NULL) : -EBADF;
    *ret_lifted = holder >= 0;
    int fd = openat(dir, name, flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int lower(int fd, mode_t mode, bool lifted, int r) {
    return lifted && fchmod(fd, mode & 07777) < 0 && r == 0 ? -errno : r;
}

static int copy_file(int from_dir, int to_dir, const char *name, mode_t mode) {
    bool lifted;
    cleanup_fd int from = open_lifted(from_dir, name, 0, mode, &lifted);
    struct stat st;
    if (from < 0 || lower(from, mode, lifted, 0) < 0 || fstat(from, &st) < 0)
        return from < 0 ? from : -errno;
    cleanup_fd int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, st.st_mode & 07777);
    if (to < 0)
        return -errno;
    int r = st.st_size > 0 ? copy_contents(from, to, st.st_size) : 0;
    if (r < 0)
        return r;
    const struct timespec times[2] = {st.st_mtim, st.st_mtim}; /* Python looks whether its bytecode is of this source */
    return futimens(to, times) < 0 ? -errno : 0;
}

static int copy_link(int from_dir, int to_dir, const char *name) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(from_dir, name, target, sizeof target - 1);
    if (length < 0)
        return -errno;
    target[length] = 0;
    return symlinkat(target, to_dir, name) < 0 ? -errno : 0;
}

static bool is_opaque(int dir) {
    char value;
    return fgetxattr(dir, "user.overlay.opaque", &value, 1) == 1 && value == 'y';
}

static int copy_subdirectory(int from_dir, int to_dir, const char *name, mode_t mode, bool onto, int depth) {
    bool lifted;
    cleanup_fd int from = open_lifted(from_dir, name, O_DIRECTORY, mode, &lifted);
    if (from < 0)
        return from;
    if (onto && is_opaque(from)) {
        int r = lis_remove_tree(to_dir, name);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    if (mkdirat(to_dir, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    cleanup_fd int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (to < 0)
        return -errno;
    int r = lower(from, mode, lifted, copy_directory(from, to, onto, depth + 1));
    return r == 0 && fchmod(to, mode & 07777) < 0 ? -errno : r;
}

/* Takes away what a lower layer has put in the place of something else. */
static int make_room(int to_dir, const char *name, bool for_directory) {
    struct stat st;
    if (fstatat(to_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISDIR(st.st_mode))
        return for_directory ? 0 : lis_remove_tree(to_dir, name);
    return unlinkat(to_dir, name, 0) < 0 ? -errno : 0;
}

static int copy_entry(int from_dir, int to_dir, const char *name, bool onto, int depth) {
    struct stat st;
    if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    int r = onto ? make_room(to_dir, name, S_ISDIR(st.st_mode)) : 0;
    if (r < 0)
        return r;
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        return copy_file(from_dir, to_dir, name, st.st_mode);
    case S_IFDIR:
        return copy_subdirectory(from_dir, to_dir, name, st.st_mode, onto, depth);
    case S_IFLNK:
        return copy_link(from_dir, to_dir, name);
    case S_IFIFO:
        return mknodat(to_dir, name, S_IFIFO | (st.st_mode & 07777), 0) < 0 ? -errno : 0;
    default:
        return 0; /* a whiteout has done its work; no layer holds devices that work, or sockets that anybody serves */
    }
}

static int copy_directory(int from, int to, bool onto, int depth) {
    if (depth > MAX_DEPTH)
        return -ENAMETOOLONG;
    int listed = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = listed < 0 ? NULL : fdopendir(listed);
    if (!listing) {
        lis_close(listed);
        return -errno;
    }
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(listing));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = copy_entry(from, to, entry->d_name, onto, depth);
    closedir(listing);
    return r;
}

int lis_copy_layer(int from, int to, bool onto) {
    struct stat st;
    if (fstat(from, &st) < 0)
        return -errno;
    mode_t mask = umask(0);
    int r = copy_directory(from, to, onto, 0);
    umask(mask);
    /* mount points are still to be made in it, by one who has no power over modes */
    return r == 0 && fchmod(to, (st.st_mode & 07777) | 0700) < 0 ? -errno : r;
}
