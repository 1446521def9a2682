/* The floor: what one create, exec, destroy and fork of a sandbox cost in system calls alone.
 *
 * These are the calls that give what lisrt gives (the same namespaces, mounts, limits, filter), in a straight line, without
 * Python, messages, checks or choices. What is done once (U0, the lean mount namespace, layers, the filter's program) is
 * lisrt's own code from csrc/; what is measured is in sandbox.c, and shares nothing with it but the numbers of the calls. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "lis.h"
#include "outside.h"

struct world {
    struct lis_host host;
    struct lis_filter filter;
    struct lis_networks
        networks;      /* made ahead, as lisrt does: else what has just ended would be waited for, and not by lisrt */
    const char *lower; /* as overlayfs takes it: what the lean namespace knows the layers by */
    const struct floor_bind *binds; /* of the image */
    int nbinds;
    const char *script; /* what commands of sandboxes made from now on are: for bash; NULL for /bin/true */
};
struct floor_bind {
    const char *place, *target; /* in the lean namespace; below the new root */
};
struct box {
    char id[16], lower[64]; /* the second, if it was forked: what lies below, above the image */
    pid_t pid;
    int sock;
};

/* 0 or -errno. `box->id` is given, and `box->lower` may be; the sandbox is there when its socket can be read: floor_ready. */
int floor_create(struct world *world, struct box *box);
int floor_ready(struct box *box);

/* A command that runs: /bin/true, or a script; its output in two pipes. */
struct run {
    int out[2];
};
int floor_exec_begin(struct box *box, struct run *run);
/* The box's socket can be read: takes the answer and what is in the pipes. -errno, or the exit status. */
int floor_exec_end(struct box *box, struct run *run);

/* It dies; everything in it is dead when its socket has ended: floor_destroy_end, as lisrt has it. The rest of its end, which is
 * waited for where its files go on, is floor_reap. */
int floor_destroy_begin(struct box *box);
int floor_destroy_end(struct box *box);
int floor_reap(struct box *box);
/* Its files are what two go on with: it again, and the twin. */
int floor_fork(struct world *world, struct box *box, struct box *twin);
