/* Places below a root that may be the work of untrusted code: opened or made without following any link. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "sys.h"
#include "util.h"

#define RESOLVE (SYS_RESOLVE_NO_SYMLINKS | SYS_RESOLVE_NO_MAGICLINKS | SYS_RESOLVE_BENEATH)

int lis_open_target(int root, const char *path, bool is_file, bool may_make, bool *ret_made) {
    const int last_flags = O_PATH | O_CLOEXEC | (is_file ? 0 : O_DIRECTORY);
    int fd = sys_openat2(root, path, last_flags, 0, RESOLVE);
    if (fd >= 0 || errno != ENOENT)
        return fd < 0 ? -errno : fd;
    if (!may_make)
        return -EROFS;
    char part[256];
    cleanup_fd int dir = fcntl(root, F_DUPFD_CLOEXEC, 3);
    for (const char *at = path;;) {
        size_t length = strcspn(at, "/");
        bool is_last = at[length] == 0;
        if (length >= sizeof part)
            return -ENAMETOOLONG;
        memcpy(part, at, length);
        part[length] = 0;
        int made = is_last && is_file ? mknodat(dir, part, S_IFREG | 0644, 0) : mkdirat(dir, part, 0755);
        if (made < 0 && errno != EEXIST)
            return -errno;
        if (ret_made)
            *ret_made = made == 0;
        int next = sys_openat2(dir, part, is_last ? last_flags : O_PATH | O_CLOEXEC | O_DIRECTORY, 0, RESOLVE);
        if (next < 0)
            return -errno;
        close(dir);
        dir = next;
        if (is_last)
            return lis_take_fd(&dir);
        at += length + 1;
    }
}

int lis_check_target(int layer, const char *path, bool is_file) {
    cleanup_fd int fd = sys_openat2(layer, path, O_PATH | O_CLOEXEC, 0, RESOLVE);
    struct stat st;
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode) == is_file)
        return is_file ? -EISDIR : -ENOTDIR;
    return 1;
}
