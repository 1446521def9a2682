/* What the watchdog finds out of a sandbox's memory. Two looks: a cheap one, which counts what processes share for each of
 * them, and an exact one, by proportional shares of what was written. See watchdog.c for when which is taken. */
#define _GNU_SOURCE
#include "memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "util.h"

#define MOST_LINKS 500000 /* descriptors read in one scan */

static ssize_t read_at(int dir, const char *path, char *buffer, size_t size) {
    cleanup_fd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : LIS_RETRY(read(fd, buffer, size - 1));
    buffer[got < 0 ? 0 : got] = 0;
    return got;
}

static uint64_t kib_after(const char *text, const char *name) {
    unsigned long kib = 0;
    const char *line = strstr(text, name);
    return line && sscanf(line + strlen(name), " %lu", &kib) == 1 ? (uint64_t)kib * 1024 : 0;
}

/* The next process of a sandbox but PID 1; 0 at the end. */
static pid_t next_process(DIR *proc) {
    for (struct dirent *entry; (entry = readdir(proc));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 1)
            return pid;
    }
    return 0;
}

static uint64_t used_by_files(int dir) {
    struct statfs fs;
    return dir >= 0 && fstatfs(dir, &fs) == 0 ? (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize : 0;
}

uint64_t lis_named_memory(const struct lis_place *place) {
    return place->memory_files + used_by_files(place->shm);
}

struct statm {
    uint64_t size, resident, shared; /* pages */
};

/* `name`: "PID", or "PID/task/TID" where the first thread has ended: that one shows no memory, though the others have it. */
static bool read_statm(int proc, pid_t pid, char name[40], struct statm *ret) {
    char path[64], text[128];
    snprintf(name, 40, "%d", pid);
    snprintf(path, sizeof path, "%d/statm", pid);
    if (read_at(proc, path, text, sizeof text) <= 0 ||
        sscanf(text, "%lu %lu %lu", &ret->size, &ret->resident, &ret->shared) != 3)
        return false;
    if (ret->size)
        return true;
    snprintf(path, sizeof path, "%d/task", pid);
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
    if (!tasks) {
        lis_close(fd);
        return false;
    }
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(tasks));) {
        if (atoi(entry->d_name) == pid || entry->d_name[0] == '.')
            continue;
        snprintf(name, 40, "%d/task/%.12s", pid, entry->d_name);
        snprintf(path, sizeof path, "%s/statm", name);
        found = read_at(proc, path, text, sizeof text) > 0 &&
                sscanf(text, "%lu %lu %lu", &ret->size, &ret->resident, &ret->shared) == 3 && ret->size;
    }
    closedir(tasks);
    return found;
}

struct lis_resident lis_look_cheaply(const struct lis_gauge *gauge, const struct lis_place *place) {
    struct lis_resident sum = {0, 0, 0};
    rewinddir(place->proc);
    for (pid_t pid; (pid = next_process(place->proc));) {
        char name[40];
        struct statm statm;
        if (read_statm(dirfd(place->proc), pid, name, &statm)) {
            uint64_t own = (statm.resident - statm.shared) * gauge->page;
            sum.all += statm.resident * gauge->page;
            sum.own += own;
            sum.largest_own = own > sum.largest_own ? own : sum.largest_own;
        }
    }
    return sum;
}

/* false: it was there already. Without memory for more, everything is new, and counts. */
static bool add_inode(struct lis_inodes *set, ino_t inode) {
    if (2 * (set->count + 1) > set->capacity) {
        struct lis_inodes larger = {.capacity = set->capacity ? 2 * set->capacity : 256};
        larger.at = calloc(larger.capacity, sizeof *larger.at);
        if (!larger.at)
            return true;
        for (size_t i = 0; i < set->capacity; i++)
            if (set->at[i])
                add_inode(&larger, set->at[i]);
        free(set->at);
        *set = larger;
    }
    size_t slot = (size_t)(inode * 0x9e3779b97f4a7c15u) & (set->capacity - 1);
    while (set->at[slot] && set->at[slot] != inode)
        slot = (slot + 1) & (set->capacity - 1);
    if (set->at[slot])
        return false;
    set->at[slot] = inode;
    set->count++;
    return true;
}

static void clear_inodes(struct lis_inodes *set) {
    if (set->at)
        memset(set->at, 0, set->capacity * sizeof *set->at);
    set->count = 0;
}

/* Only links are read until one names a memory file: a stat of another one may wait for a dead file server. */
static uint64_t memory_files_in(struct lis_gauge *gauge, int proc, const char *path) {
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        lis_close(fd);
        return 0;
    }
    static const char prefix[] = "/memfd:";
    uint64_t total = 0;
    for (struct dirent *entry; gauge->links < MOST_LINKS && (entry = readdir(dir)); gauge->links++) {
        char target[sizeof prefix] = "";
        struct stat st;
        if (readlinkat(dirfd(dir), entry->d_name, target, sizeof prefix - 1) < 0 || strcmp(target, prefix) != 0)
            continue;
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && add_inode(&gauge->inodes, st.st_ino))
            total += (uint64_t)st.st_blocks * 512;
    }
    closedir(dir);
    return total;
}

/* One thread of each process speaks for all: the filter lets none have descriptors of its own (seccomp.c). */
void lis_scan_memory_files(struct lis_gauge *gauge, struct lis_place *place) {
    clear_inodes(&gauge->inodes);
    gauge->links = 0;
    place->memory_files = 0;
    rewinddir(place->proc);
    for (pid_t pid; gauge->links < MOST_LINKS && (pid = next_process(place->proc));) {
        char name[40], path[48];
        struct statm statm;
        if (!read_statm(dirfd(place->proc), pid, name, &statm))
            continue;
        snprintf(path, sizeof path, "%s/fd", name);
        place->memory_files += memory_files_in(gauge, dirfd(place->proc), path);
    }
    if (gauge->links >= MOST_LINKS)
        place->memory_files = LIS_TOO_MUCH;
}

/* A process that waits for its vfork has one child with the very same memory, which must not count twice. Of those that have
 * not executed anything yet, the first of the same size is taken for it. */
#define FORKED_ONLY 0x40u /* PF_FORKNOEXEC */

struct shares {
    uint64_t anonymous, shared;
};

struct one {
    pid_t pid, parent;
    char state;
    unsigned flags;
    struct statm statm;
    char name[40];
    bool has_twin;
};

static bool read_one(int proc, pid_t pid, struct one *ret) {
    char path[32], text[512];
    snprintf(path, sizeof path, "%d/stat", pid);
    if (read_at(proc, path, text, sizeof text) <= 0 || !read_statm(proc, pid, ret->name, &ret->statm))
        return false;
    const char *rest = strrchr(text, ')');
    ret->pid = pid;
    ret->has_twin = false;
    return rest && sscanf(rest + 1, " %c %d %*d %*d %*d %*d %u", &ret->state, &ret->parent, &ret->flags) == 3;
}

static struct one *find_one(struct one *all, size_t count, pid_t pid) {
    for (size_t i = 0; i < count; i++)
        if (all[i].pid == pid)
            return &all[i];
    return NULL;
}

static bool is_twin(struct one *all, size_t count, const struct one *child) {
    struct one *parent = child->flags & FORKED_ONLY ? find_one(all, count, child->parent) : NULL;
    if (!parent || parent->state != 'D' || parent->has_twin ||
        memcmp(&parent->statm, &child->statm, sizeof child->statm) != 0)
        return false;
    return parent->has_twin = true;
}

static size_t list_all(const struct lis_place *place, struct one **ret_all) {
    struct one *all = NULL;
    size_t count = 0, capacity = 0;
    rewinddir(place->proc);
    for (pid_t pid; (pid = next_process(place->proc));) {
        if (count == capacity) {
            size_t more = capacity ? 2 * capacity : 32;
            struct one *larger = realloc(all, more * sizeof *all);
            if (!larger)
                break;
            all = larger;
            capacity = more;
        }
        count += read_one(dirfd(place->proc), pid, &all[count]);
    }
    *ret_all = all;
    return count;
}

static struct shares add_up_shares(const struct lis_place *place, struct one *all, size_t count, uint64_t page) {
    struct shares sum = {0, 0};
    for (size_t i = 0; i < count; i++) {
        char path[64], text[2048];
        if (is_twin(all, count, &all[i]))
            continue;
        snprintf(path, sizeof path, "%s/smaps_rollup", all[i].name);
        if (read_at(dirfd(place->proc), path, text, sizeof text) > 0) {
            sum.anonymous += kib_after(text, "Pss_Anon:") + kib_after(text, "SwapPss:");
            sum.shared += kib_after(text, "Pss_Shmem:");
        } else { /* of a program that may be run but not read, or that has just ended */
            sum.anonymous += (all[i].statm.resident - all[i].statm.shared) * page;
        }
    }
    return sum;
}

/* Of shared memory, that which has no name: everything else is in /dev/shm or is a memory file, and counted there. */
static uint64_t add_up_nameless(const struct lis_place *place) {
    uint64_t sum = 0;
    rewinddir(place->proc);
    for (pid_t pid; (pid = next_process(place->proc));) {
        char name[40], path[64], line[512];
        struct statm statm;
        if (!read_statm(dirfd(place->proc), pid, name, &statm))
            continue;
        snprintf(path, sizeof path, "%s/smaps", name);
        int fd = openat(dirfd(place->proc), path, O_RDONLY | O_CLOEXEC);
        FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
        if (!file) {
            lis_close(fd);
            continue;
        }
        for (bool nameless = false; fgets(line, sizeof line, file);) {
            if (strchr("0123456789abcdef", line[0])) /* a mapping begins: its fields' names have capitals */
                nameless = strstr(line, " /dev/zero (deleted)") || strstr(line, " /SYSV");
            else if (nameless && strncmp(line, "Pss:", 4) == 0)
                sum += kib_after(line, "Pss:");
        }
        fclose(file);
    }
    return sum;
}

/* What a process lets go of while shares are added up falls to others that are looked at later, and so counts twice: when
 * twelve that share 60 MiB end together, they seem to have up to 186. So much less it may be. */
static uint64_t doubt(const struct lis_place *place, const struct one *all, size_t count, uint64_t page) {
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        char name[40];
        struct statm after = {0};
        if (!read_statm(dirfd(place->proc), all[i].pid, name, &after))
            after.resident = 0;
        if (after.resident < all[i].statm.resident)
            sum += (all[i].statm.resident - after.resident) * page;
    }
    return sum;
}

uint64_t lis_look_exactly(const struct lis_gauge *gauge, const struct lis_place *place, uint64_t limit,
                          uint64_t *ret_doubt) {
    if (place->memory_files >= LIS_TOO_MUCH)
        return LIS_TOO_MUCH;
    uint64_t files = lis_named_memory(place);
    cleanup_free struct one *all = NULL;
    size_t count = list_all(place, &all);
    struct shares sum = add_up_shares(place, all, count, gauge->page);
    uint64_t usage = sum.anonymous + (sum.shared > files ? sum.shared : files);
    /* what is shared may be the files, mapped, or memory besides them: only when it matters is it worth finding out */
    if (usage <= limit && sum.anonymous + sum.shared + files > limit)
        usage = sum.anonymous + add_up_nameless(place) + files;
    if (usage > limit)
        *ret_doubt = doubt(place, all, count, gauge->page);
    return usage;
}

uint64_t lis_shared_by_all(bool *ret_has_swap) {
    char text[4096];
    read_at(AT_FDCWD, "/proc/meminfo", text, sizeof text);
    *ret_has_swap = kib_after(text, "\nSwapTotal:") > 0;
    return kib_after(text, "\nShmem:");
}
