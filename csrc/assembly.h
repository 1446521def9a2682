/* Programs for seccomp(2), put together from their end: jumps lead forward only, so that what one leads to is there before it,
 * and how far it is known. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "lis.h"

/* Places are counted from the end: the last instruction is at 1. */
struct lis_assembly {
    unsigned length;
    size_t nanswers;
    struct {
        uint32_t action;
        unsigned at;
    } answers[16]; /* the nearest instruction that gives this one */
    struct sock_filter code[LIS_MAX_FILTER];
};

/* Numbers from `first` on, up to the next range: an action, or the place of a part that decides. */
struct lis_range {
    uint32_t first, action;
    unsigned at; /* 0: it is the action */
};

/* Puts a part before all that is there, into which its last instruction may lead. Returns the place of its first. */
unsigned lis_assembly_prepend(struct lis_assembly *assembly, const struct lis_filter *part);
/* A binary search in ascending ranges, two or more, the first of which begins with 0. The number has been loaded. */
void lis_assembly_search(struct lis_assembly *assembly, const struct lis_range ranges[], size_t count);
/* -E2BIG */
int lis_assembly_finish(const struct lis_assembly *assembly, struct lis_filter *ret_filter);
