/* Deleting directory trees that untrusted code made: any depth, any mode, links never followed. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "util.h"

static int open_dir(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) { /* overlay's work/work has mode 000 */
        cleanup_fd int holder = lis_lift(dir, name, O_DIRECTORY, NULL);
        if (holder < 0)
            return holder;
        fd = openat(holder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    struct stat st;
    /* it can be listed and not written to: whoever is not root in U0 (`lisrt gc`) must be allowed to, to empty it */
    if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0) {
        lis_close(fd);
        return -errno;
    }
    return fd < 0 ? -errno : fd;
}

static DIR *list(int dir) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    if (!listing)
        lis_close(fd);
    return listing;
}

struct walk {
    int top;
    uint64_t counter, deadline;
};

/* A directory that is not empty moves up to the top, so the depth of a tree costs no memory and no recursion. */
static int move_up(struct walk *walk, int dir, const char *name) {
    char unique[40];
    for (;;) {
        snprintf(unique, sizeof unique, ".trash-%llx", (unsigned long long)walk->counter++);
        if (renameat(dir, name, walk->top, unique) == 0)
            return 0;
        if (errno == EACCES) {
            cleanup_fd int holder = lis_lift(dir, name, O_DIRECTORY, NULL);
            if (holder >= 0 && renameat(dir, name, walk->top, unique) == 0)
                return 0;
            errno = holder < 0 ? -holder : errno;
        }
        if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
            return -errno;
    }
}

/* One pass over a directory; what is left in it afterwards is on its way up. Returns how many entries were dealt with. */
static int empty_once(struct walk *walk, int dir) {
    DIR *listing = list(dir);
    if (!listing)
        return -errno;
    int done = 0, r = 0;
    for (struct dirent *entry; (entry = readdir(listing));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (walk->deadline != UINT64_MAX && lis_now_ns() > walk->deadline) {
            closedir(listing);
            return -ETIME;
        }
        if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) {
            done++;
        } else if (errno != EISDIR && errno != EPERM) {
            r = -errno;
        } else if (unlinkat(dir, name, AT_REMOVEDIR) == 0) {
            done++;
        } else if (dir != walk->top) {
            int moved = move_up(walk, dir, name);
            r = moved < 0 ? moved : r;
            done += moved == 0;
        } else {
            cleanup_fd int inner = open_dir(dir, name);
            int emptied = inner < 0 ? inner : empty_once(walk, inner);
            if (emptied >= 0 && unlinkat(dir, name, AT_REMOVEDIR) == 0)
                done++;
            else
                r = emptied < 0 ? emptied : -errno;
            done += emptied > 0;
            if (emptied == -ETIME)
                break;
        }
    }
    closedir(listing);
    return r == -ETIME || (done == 0 && r < 0) ? r : done;
}

int lis_remove_tree(int dir, const char *name) {
    return lis_remove_tree_until(dir, name, UINT64_MAX);
}

int lis_remove_tree_until(int dir, const char *name, uint64_t deadline) {
    cleanup_fd int top = open_dir(dir, name);
    if (top < 0)
        return top;
    struct walk walk = {.top = top, .deadline = deadline};
    for (;;) {
        if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST)
            return -errno;
        int done = empty_once(&walk, top);
        if (done < 0)
            return done;
        if (done == 0 && unlinkat(dir, name, AT_REMOVEDIR) < 0)
            return -errno; /* something is left that can't be removed */
        if (done == 0)
            return 0;
    }
}

int lis_collect(int base) {
    /* Owners make and lock their directory under a shared lock, so none that is half-made is taken for a dead one's. */
    cleanup_fd int lock = openat(base, ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0 || LIS_RETRY(flock(lock, LOCK_EX)) < 0)
        return -errno;
    DIR *listing = list(base);
    if (!listing)
        return -errno;
    char(*names)[NAME_MAX + 1] = NULL;
    int *locks = NULL, count = 0;
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (entry->d_name[0] == '.')
            continue;
        int fd = open_dir(base, entry->d_name);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !lis_owner_is_of_here(base, entry->d_name)) {
            lis_close(fd);
            continue;
        }
        void *more_names = realloc(names, (size_t)(count + 1) * sizeof *names);
        names = more_names ? more_names : names;
        void *more_locks = realloc(locks, (size_t)(count + 1) * sizeof *locks);
        locks = more_locks ? more_locks : locks;
        if (!more_names || !more_locks) {
            close(fd);
            break;
        }
        memcpy(names[count], entry->d_name, sizeof *names);
        locks[count++] = fd;
    }
    closedir(listing);
    close(lis_take_fd(&lock)); /* the rest takes long, and the directories themselves are locked now */
    int removed = 0;
    for (int i = 0; i < count; i++) {
        removed += lis_owner_remove(base, names[i], UINT64_MAX) == 0;
        close(locks[i]);
    }
    free(names);
    free(locks);
    return removed;
}
