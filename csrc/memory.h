/* How much memory a sandbox uses, seen from outside: memory.c. */
#pragma once

#include <dirent.h>

#include "lis.h"

#define LIS_TOO_MUCH (UINT64_MAX / 4) /* what can't be counted in time counts as that */

struct lis_inodes {
    ino_t *at;
    size_t count, capacity; /* of 2; 0 is no inode's number */
};

/* What all looks have in common. */
struct lis_gauge {
    uint64_t page, links;
    struct lis_inodes inodes;
};

/* A sandbox, as a look sees it. */
struct lis_place {
    DIR *proc; /* its own */
    int shm;   /* its /dev/shm */
    uint64_t memory_files;
};

struct lis_resident {
    uint64_t all, own,
        largest_own; /* of all processes; no file's; no file's, of one process: so much there is for sure */
};

/* Memory files that any process of the sandbox has open, in place->memory_files. */
void lis_scan_memory_files(struct lis_gauge *gauge, struct lis_place *place);
/* Bytes in /dev/shm, and in memory files when they were last scanned. */
uint64_t lis_named_memory(const struct lis_place *place);
/* Sums of resident pages: what processes share counts for each of them. */
struct lis_resident lis_look_cheaply(const struct lis_gauge *gauge, const struct lis_place *place);
/* Bytes in all, each once, after a scan. *ret_doubt, if that is above the limit: so much less it may be. */
uint64_t lis_look_exactly(const struct lis_gauge *gauge, const struct lis_place *place, uint64_t limit,
                          uint64_t *ret_doubt);
/* Shared memory of the whole machine. */
uint64_t lis_shared_by_all(bool *ret_has_swap);
