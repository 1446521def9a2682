/* File requests, one connection of them, served by a child of PID 1.
 *
 * A child, because opening can block (an overlay copies a large file up on the first write) and PID 1 must not. It runs
 * inside the root, so links lead nowhere else. Only regular files are handed out, as descriptors: the bytes never pass
 * through here, and whoever reads them needs to trust nothing but the kernel. */
#define _GNU_SOURCE
#include "inside.h"
#include "lis.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "sys.h"
#include "util.h"

#define MAX_PATH 4096

static int reply_more(int sock, int err, const struct stat *st, int fd, bool more) {
    struct lis_file_reply message = {.header = {LIS_MAGIC, LIS_FILE}, .err = err, .more = more};
    if (st) {
        message.mode = st->st_mode;
        message.size = (uint64_t)st->st_size;
    }
    return lis_send(sock, &message, sizeof message, &fd, fd >= 0);
}

static int reply(int sock, int err, const struct stat *st, int fd) {
    return reply_more(sock, err, st, fd, false);
}

/* mkdir -p of all but the last part */
static int make_parents(const char *path) {
    char prefix[MAX_PATH];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t length = (size_t)(slash - path);
        memcpy(prefix, path, length);
        prefix[length] = 0;
        if (mkdir(prefix, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* No magic links: through /proc/self/fd a link in the sandbox could name a descriptor of ours. */
static int open_plain(const char *path, int flags, unsigned mode) {
    int fd = sys_openat2(AT_FDCWD, path, flags | O_CLOEXEC, mode, SYS_RESOLVE_NO_MAGICLINKS);
    return fd < 0 ? -errno : fd;
}

static int check_regular(int fd, bool writing, struct stat *ret_st) {
    struct statfs fs;
    if (fstat(fd, ret_st) < 0 || fstatfs(fd, &fs) < 0)
        return -errno;
    if (S_ISDIR(ret_st->st_mode))
        return -EISDIR;
    if (!S_ISREG(ret_st->st_mode))
        return -EOPNOTSUPP;
    return writing && fs.f_type == PROC_SUPER_MAGIC ? -EACCES : 0;
}

/* Look first, with O_PATH, which touches nothing: to open a FIFO or a device is to do something to it. */
static int open_regular(const char *path, int flags, unsigned mode, struct stat *ret_st) {
    bool writing = (flags & O_ACCMODE) != O_RDONLY;
    cleanup_fd int place = open_plain(path, O_PATH, 0);
    if (place == -ENOENT && flags & O_CREAT) {
        place = open_plain(path, flags | O_NONBLOCK | O_NOCTTY, mode);
        if (place < 0)
            return place;
        int r = check_regular(place, writing, ret_st);
        return r < 0 ? r : lis_take_fd(&place);
    }
    if (place < 0)
        return place;
    int r = check_regular(place, writing, ret_st);
    if (r < 0)
        return r;
    char self[32];
    snprintf(self, sizeof self, "/proc/self/fd/%d", place);
    int fd = open(self, (flags & ~(O_CREAT | O_NOFOLLOW)) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int serve_open_read(int sock, const char *path) {
    struct stat st;
    cleanup_fd int fd = open_regular(path, O_RDONLY, 0, &st);
    return fd < 0 ? reply(sock, -fd, NULL, -1) : reply(sock, 0, &st, fd);
}

/* Parents are made when they turn out to be missing: to go through all of them each time would make the copying of a deep
 * tree cubic in its depth. The second reply says that our copy of the descriptor is closed: a program that was written, and
 * run before that, was a busy text file (CI saw it once). */
static int serve_open_write(int sock, const char *path, unsigned mode, bool is_exact) {
    struct stat st;
    cleanup_fd int fd = open_regular(path, O_WRONLY | O_CREAT, mode, &st);
    if (fd == -ENOENT) {
        int r = make_parents(path);
        fd = r < 0 ? r : open_regular(path, O_WRONLY | O_CREAT, mode, &st);
    }
    if (fd >= 0 && st.st_size > 0 && ftruncate(fd, 0) < 0)
        return reply(sock, errno, NULL, -1);
    if (fd >= 0 && is_exact && (st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
        return reply(sock, errno, NULL, -1);
    if (fd < 0)
        return reply(sock, -fd, NULL, -1);
    int r = reply_more(sock, 0, &st, fd, true);
    close(lis_take_fd(&fd));
    return r < 0 ? r : reply(sock, 0, NULL, -1);
}

static int serve_mkdir(int sock, const char *path, unsigned mode) {
    struct stat st;
    int r = mkdir(path, mode) < 0 ? -errno : 0;
    if (r == -ENOENT) {
        r = make_parents(path);
        if (r == 0 && mkdir(path, mode) < 0)
            r = -errno;
    }
    if (r == -EEXIST && stat(path, &st) == 0)
        r = S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    return reply(sock, -r, NULL, -1);
}

static int serve_symlink(int sock, const char *path, const char *target) {
    int r = symlink(target, path) < 0 ? -errno : 0;
    if (r == -ENOENT)
        r = make_parents(path);
    else if (r == -EEXIST)
        r = unlink(path) < 0 ? -errno : 0;
    else
        return reply(sock, -r, NULL, -1);
    if (r == 0 && symlink(target, path) < 0)
        r = -errno;
    return reply(sock, -r, NULL, -1);
}

static int serve_stat(int sock, const char *path) {
    struct stat st;
    cleanup_fd int place = open_plain(path, O_PATH, 0);
    if (place < 0)
        return reply(sock, -place, NULL, -1);
    return fstat(place, &st) < 0 ? reply(sock, errno, NULL, -1) : reply(sock, 0, &st, -1);
}

static int send_entry(int sock, int dir, const char *name) {
    struct {
        struct lis_file_reply reply;
        char text[NAME_MAX + 1 + MAX_PATH];
    } entry = {.reply = {.header = {LIS_MAGIC, LIS_FILE}, .more = 1}};
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0; /* deleted since it was listed */
    size_t length = strnlen(name, NAME_MAX);
    memcpy(entry.text, name, length);
    size_t used = length + 1;
    if (S_ISLNK(st.st_mode)) {
        ssize_t got = readlinkat(dir, name, entry.text + used, MAX_PATH - 1);
        if (got < 0)
            return 0;
        used += (size_t)got;
    }
    entry.text[used++] = 0;
    entry.reply.mode = st.st_mode;
    entry.reply.size = (uint64_t)st.st_size;
    return lis_send(sock, &entry, sizeof entry.reply + used, NULL, 0);
}

static int serve_list(int sock, const char *path) {
    cleanup_fd int fd = open_plain(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return reply(sock, -fd, NULL, -1);
    DIR *dir = fdopendir(fd);
    if (!dir)
        return reply(sock, errno, NULL, -1);
    int own = lis_take_fd(&fd), r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = send_entry(sock, own, entry->d_name);
    closedir(dir);
    return r < 0 ? r : reply(sock, 0, NULL, -1);
}

int lis_file_request_decode(const struct lis_file_request *request, ssize_t size, const char **ret_path,
                            const char **ret_second) {
    if (size <= (ssize_t)sizeof *request || request->header.magic != LIS_MAGIC)
        return -EPROTO;
    const char *path = (const char *)(request + 1), *end = (const char *)request + size;
    if (end[-1] != 0)
        return -EPROTO;
    const char *second = path + strlen(path) + 1;
    if (second >= end)
        second = "";
    if (strlen(path) >= MAX_PATH || strlen(second) >= MAX_PATH)
        return -ENAMETOOLONG;
    if (path[0] != '/')
        return -EINVAL;
    *ret_path = path;
    *ret_second = second;
    return 0;
}

static int answer(int sock, const struct lis_file_request *request, ssize_t size) {
    const char *path, *second;
    int r = lis_file_request_decode(request, size, &path, &second);
    if (r < 0)
        return r == -EPROTO ? r : reply(sock, -r, NULL, -1);
    switch (request->op) {
    case LIS_OPEN_READ:
        return serve_open_read(sock, path);
    case LIS_OPEN_WRITE:
        return serve_open_write(sock, path, request->mode & 0777, request->mode & LIS_EXACT_MODE);
    case LIS_LIST:
        return serve_list(sock, path);
    case LIS_MKDIR:
        return serve_mkdir(sock, path, request->mode & 0777);
    case LIS_SYMLINK:
        return serve_symlink(sock, path, second);
    case LIS_STAT:
        return serve_stat(sock, path);
    default:
        return reply(sock, ENOSYS, NULL, -1);
    }
}

int lis_files_serve_one(int sock) {
    _Alignas(struct lis_file_request) char buffer[sizeof(struct lis_file_request) + 2 * MAX_PATH + 2];
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t size = lis_receive(sock, 0, buffer, sizeof buffer, fds, &nfds);
    for (int i = 0; i < nfds; i++)
        close(fds[i]); /* none is expected */
    if (size == -EMSGSIZE)
        return reply(sock, ENAMETOOLONG, NULL, -1);
    return answer(sock, (const struct lis_file_request *)buffer, size);
}

void lis_files_serve(int sock) {
    umask(0); /* modes come from the caller, who has said what he wants */
    int flags = fcntl(sock, F_GETFL);
    if (flags >= 0)
        fcntl(sock, F_SETFL, flags & ~O_NONBLOCK); /* set where the host program has a default socket timeout */
    while (lis_files_serve_one(sock) >= 0)
        ;
    _exit(0);
}
