/* What setup.c and ahead.c share: the state of a child that is becoming PID 1. */
#pragma once

#include "lis.h"
#include "outside.h"

struct context {
    const struct lis_resources *resources;
    struct lis_fault *fault;
    int root;                /* the new root, once its overlay is mounted */
    int proc;                /* a /proc that is writable; the one that programs see is not */
    int network;             /* a namespace that is there; below 0: there is none */
    bool is_up;              /* that one was entered, in which the loopback interface is up */
    int made[LIS_MAX_STEPS]; /* for each PROC, DEVPTS and TMPFS step: its mount */
};

static inline const char *lis_text(const struct context *ctx, const struct lis_step *step, uint32_t i) {
    return lis_string(ctx->resources->plan, step, i);
}

/* ---- ahead.c: what needs no root -------------------------------------------------------------------------------- */

/* Namespaces, the directories of the writable layer, and file systems that are new and empty. */
int lis_make_ahead(struct context *ctx);
/* Of one that goes on with another's files: until it is told to, and the other has ended. */
int lis_wait_for_turn(struct context *ctx);
