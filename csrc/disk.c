/* Watches how much sandboxes write, where limits on that are asked for: adds their writable layers up, file by file. A
 * process of its own, because that waits for a disk.
 *
 * A sandbox is added up again when it could have reached its limit, and not before ten times what the last time took has
 * passed, unless its file system has filled up meanwhile by as much as the sandbox has room. One that was over its limit and
 * still is may run programs that clear up: only growth counts; far over, whatever does not make it less. */
#define _GNU_SOURCE
#include "bounds.h"
#include "lis.h"
#include "outside.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "util.h"

#define MS 1000000u
#define TICK_NS (20 * MS)
#define SHORTEST_NS (100 * MS)
#define LONGEST_NS (2000 * (uint64_t)MS)
#define BYTES_PER_MS ((uint64_t)1 << 20) /* what a program writes to the page cache, or so */
#define FILES_PER_MS 200u
#define SLACK (64 * 1024u)
#define FAR ((uint64_t)64 << 20)
#define TOO_MUCH (UINT64_MAX / 2)
#define DEEPEST 256

struct usage {
    uint64_t bytes, files;
};

struct watched {
    char id[LIS_ID_SIZE];
    uint64_t due, earliest;
    bool told;             /* PID 1 was, and what is there after the kill is not known yet */
    struct usage forgiven; /* what it had then */
    struct usage last;
    uint64_t free_then; /* of its file system, at the last look */
};

static bool is_over(const struct lis_account *account, const struct usage *usage) {
    /* one file may be as large as the limit (RLIMIT_FSIZE), and lies in a directory */
    uint64_t limit = account->disk_limit;
    return (limit && usage->bytes > limit + limit / 16 + SLACK) ||
           (account->files_limit && usage->files > account->files_limit);
}

/* Far over: commands that are killed one after the other would otherwise each leave a little more. */
static bool is_far_over(const struct lis_account *account, const struct usage *usage) {
    return account->disk_limit && usage->bytes > 2 * account->disk_limit + FAR;
}

/* A directory that its owner has closed to itself; as the spawner's child under bubblewrap we are no more than that. */
static int open_closed(int dir, const char *name) {
    mode_t mode;
    cleanup_fd int holder = lis_lift(dir, name, O_DIRECTORY, &mode);
    if (holder < 0)
        return -1;
    int fd = openat(holder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        fchmod(fd, mode);
    return fd;
}

/* Links are not followed. A tree as deep as no program needs counts as too much: each level holds a descriptor. */
static void add_up(int dir, const char *name, unsigned depth, struct usage *usage) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES)
        fd = open_closed(dir, name);
    DIR *listing = fd < 0 || depth > DEEPEST ? NULL : fdopendir(fd);
    if (!listing) {
        if (fd >= 0 || errno == EMFILE)
            *usage = (struct usage){TOO_MUCH, TOO_MUCH};
        lis_close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(listing));) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (usage->files >= TOO_MUCH)
            break;
        usage->files++;
        usage->bytes += (uint64_t)st.st_blocks * 512 / (S_ISDIR(st.st_mode) || !st.st_nlink ? 1 : st.st_nlink);
        if (S_ISDIR(st.st_mode))
            add_up(fd, entry->d_name, depth + 1, usage);
    }
    closedir(listing);
}

static uint64_t time_to_fill(const struct lis_account *account, const struct usage *usage) {
    uint64_t ms = LONGEST_NS / MS;
    if (account->disk_limit) {
        uint64_t room = account->disk_limit > usage->bytes ? account->disk_limit - usage->bytes : 0;
        ms = room / BYTES_PER_MS < ms ? room / BYTES_PER_MS : ms;
    }
    if (account->files_limit) {
        uint64_t room = account->files_limit > usage->files ? account->files_limit - usage->files : 0;
        ms = room / FILES_PER_MS < ms ? room / FILES_PER_MS : ms;
    }
    return ms * MS;
}

static uint64_t free_bytes(int dir) {
    struct statfs fs;
    return fstatfs(dir, &fs) == 0 ? (uint64_t)fs.f_bfree * (uint64_t)fs.f_bsize : 0;
}

static void tell(struct watched *w, struct lis_account *account) {
    int32_t pid = LIS_LOAD(account->pid);
    w->told = true;
    LIS_STORE(account->disk_over, account->disk_over + 1);
    if (pid > 1)
        kill(pid, LIS_SIGNAL_LOOK);
}

static void look(struct watched *w, struct lis_account *account, int dir, const char *part) {
    struct usage usage = {0, 0};
    char path[LIS_ID_SIZE + 8];
    uint64_t start = lis_now_ns();
    snprintf(path, sizeof path, "%.*s/%s", LIS_ID_SIZE, w->id, part);
    w->free_then = free_bytes(dir);
    add_up(dir, path, 0, &usage);
    LIS_STORE(account->disk, usage.bytes);
    LIS_STORE(account->files, usage.files);
    bool was_told = w->told, shrinks = usage.bytes < w->last.bytes;
    w->told = false;
    w->last = usage;
    if (!is_over(account, &usage))
        w->forgiven = (struct usage){0, 0};
    else if (was_told)
        w->forgiven = usage;
    else if (usage.bytes > w->forgiven.bytes + SLACK || usage.files > w->forgiven.files ||
             (is_far_over(account, &usage) && !shrinks))
        return tell(w, account);
    uint64_t pause = time_to_fill(account, &usage), took = lis_now_ns() - start;
    pause = is_over(account, &usage) ? TICK_NS : pause > SHORTEST_NS ? pause : SHORTEST_NS;
    w->earliest = lis_now_ns() + 2 * took;
    w->due = lis_now_ns() + (pause > 10 * took ? pause : 10 * took);
}

/* The walk of a large tree is slow, this is not: has the file system filled up by what the sandbox had left? */
static bool may_be_full(const struct watched *w, const struct lis_account *account, int dir, uint64_t now) {
    if (now < w->earliest || !account->disk_limit)
        return false;
    uint64_t room = account->disk_limit > w->last.bytes ? account->disk_limit - w->last.bytes : 0;
    uint64_t now_free = free_bytes(dir);
    return now_free < w->free_then && w->free_then - now_free > room / 2 + SLACK;
}

static void visit(struct watched *w, struct lis_account *account, int dir, const char *part) {
    char id[LIS_ID_SIZE];
    memcpy(id, account->id, LIS_ID_SIZE); /* it may be given back at any moment */
    if (!LIS_LOAD(account->pid) || !id[0] || memchr(id, 0, LIS_ID_SIZE) == NULL)
        return;
    if (memcmp(w->id, id, LIS_ID_SIZE) != 0) {
        *w = (struct watched){.due = 0};
        memcpy(w->id, id, LIS_ID_SIZE);
    }
    uint64_t now = lis_now_ns();
    bool busy = LIS_LOAD(account->busy);
    if ((account->disk_limit || account->files_limit) &&
        (w->told || (busy && (now >= w->due || may_be_full(w, account, dir, now)))))
        look(w, account, dir, part);
}

void lis_watch_disk(struct lis_account_table *table, int dir, const char *part) {
    struct watched *watched = calloc(LIS_MAX_ACCOUNTS, sizeof *watched);
    if (!watched)
        _exit(1);
    for (;;) {
        uint32_t used = LIS_LOAD(table->used);
        for (uint32_t i = 0; i < used; i++)
            visit(&watched[i], &table->at[i], dir, part);
        nanosleep(&(struct timespec){0, TICK_NS}, NULL);
    }
}
