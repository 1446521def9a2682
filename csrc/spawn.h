/* What spawn.c and create.c share: the spawner's state. */
#pragma once

#include "bounds.h"
#include "lis.h"
#include "outside.h"

/* The numbers under which Python hands its descriptors over. */
enum {
    CONTROL = LIS_SPAWNER_CONTROL,
    OWNER = 4,
    OWNER_DIR = LIS_SPAWNER_OWNER_DIR,
    BASE_DIR = LIS_SPAWNER_BASE_DIR,
    FIRST_FREE = 7
};

struct sandbox {
    pid_t pid, attendant; /* 0: not there. attendant: the process that has bubblewrap make it, until it is made */
    char id[LIS_ID_SIZE];
    struct lis_account *account; /* NULL: nothing to watch */
    bool has_group;
};

struct spawner {
    struct lis_host host;
    struct lis_bwrap *bwrap; /* NULL: sandboxes are made in here */
    const char *owner_path;
    int signals;
    struct lis_trash trash;
    struct lis_networks networks;
    struct lis_accounts accounts;
    pid_t watchdogs[LIS_WATCHDOGS]; /* 0: not needed until now */
    struct lis_cgroups cgroups;
    uint32_t created;
    struct sandbox *sandboxes;
    size_t count, capacity;
    struct lis_filter *filters[LIS_FILTER_FLAGS + 1]; /* those that were asked for, by their flags */
    _Alignas(struct lis_create_message) char buffer[sizeof(struct lis_create_message) + LIS_MAX_PLAN];
};

/* Makes the sandbox that the message in the buffer asks for. fds: its control socket; then, for bubblewrap, its arguments; else,
 * if it is to have one that is there, a network namespace. They stay the caller's. */
int lis_create(struct spawner *spawner, size_t size, const int fds[], int nfds, struct lis_fault *fault);
int lis_start_watchdog(struct spawner *spawner, enum lis_watchdog which, struct lis_fault *fault);
