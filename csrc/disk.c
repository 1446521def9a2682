/* Watches how much sandboxes write, where limits on that are asked for: adds their writable layers up, file by file. A
 * process of its own, because that waits for a disk.
 *
 * A sandbox is added up again when it could have reached its limit, and not before ten times what the last time took has
 * passed. One that was over its limit and still is may run programs that clear up: only growth counts. */
#define _GNU_SOURCE
#include "lis.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "util.h"

#define MS 1000000u
#define TICK_NS (20 * MS)
#define SHORTEST_NS (100 * MS)
#define LONGEST_NS (2000 * (uint64_t)MS)
#define BYTES_PER_MS ((uint64_t)1 << 20) /* what a program writes to the page cache, or so */
#define FILES_PER_MS 200u
#define SLACK (64 * 1024u)
#define TOO_MUCH (UINT64_MAX / 2)
#define DEEPEST 256

struct usage {
    uint64_t bytes, files;
};

struct watched {
    int32_t pid;
    uint64_t due;
    bool told;             /* PID 1 was, and what is there after the kill is not known yet */
    struct usage forgiven; /* what it had then */
};

static bool is_over(const struct lis_account *account, const struct usage *usage) {
    /* one file may be as large as the limit (RLIMIT_FSIZE), and lies in a directory */
    uint64_t limit = account->disk_limit;
    return (limit && usage->bytes > limit + limit / 16 + SLACK) ||
           (account->files_limit && usage->files > account->files_limit);
}

/* Links are not followed. A tree as deep as no program needs counts as too much: each level holds a descriptor. */
static void add_up(int dir, const char *name, unsigned depth, struct usage *usage) {
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 || depth > DEEPEST ? NULL : fdopendir(fd);
    if (!listing) {
        if (fd >= 0 || errno == EMFILE || errno == ENFILE || errno == ENOMEM)
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

static void look(struct watched *w, struct lis_account *account, int dir, const char *part, uint64_t now) {
    struct usage usage = {0, 0};
    char path[LIS_ID_SIZE + 8];
    snprintf(path, sizeof path, "%.*s/%s", LIS_ID_SIZE, account->id, part);
    add_up(dir, path, 0, &usage);
    LIS_STORE(account->disk, usage.bytes);
    LIS_STORE(account->files, usage.files);
    if (!is_over(account, &usage)) {
        w->forgiven = (struct usage){0, 0};
    } else if (w->told) {
        w->forgiven = usage;
    } else if (usage.bytes > w->forgiven.bytes + SLACK || usage.files > w->forgiven.files) {
        w->told = true;
        LIS_STORE(account->disk_over, account->disk_over + 1);
        kill(w->pid, LIS_SIGNAL_LOOK);
        return;
    }
    w->told = false;
    uint64_t pause = time_to_fill(account, &usage), took = lis_now_ns() - now;
    pause = pause > SHORTEST_NS ? pause : SHORTEST_NS;
    w->due = lis_now_ns() + (pause > 10 * took ? pause : 10 * took);
}

void lis_watch_disk(struct lis_account_table *table, int dir, const char *part) {
    struct watched *watched = calloc(LIS_MAX_ACCOUNTS, sizeof *watched);
    if (!watched)
        _exit(1);
    for (;;) {
        uint32_t used = LIS_LOAD(table->used);
        for (uint32_t i = 0; i < used; i++) {
            struct lis_account *account = &table->at[i];
            int32_t pid = LIS_LOAD(account->pid);
            uint64_t now = lis_now_ns();
            if (watched[i].pid != pid)
                watched[i] = (struct watched){.pid = pid};
            bool limited = pid && (account->disk_limit || account->files_limit);
            if (limited && (watched[i].told || (LIS_LOAD(account->busy) && now >= watched[i].due)))
                look(&watched[i], account, dir, part, now);
        }
        nanosleep(&(struct timespec){0, TICK_NS}, NULL);
    }
}
