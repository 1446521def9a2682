/* The shorter a filter, the sooner a sandbox is there: the kernel checks, converts and compiles it for each one. With an answer of
 * its own for each range, and a jump beside each branch, it was nearly twice as long. */
#include "assembly.h"

#include <errno.h>
#include <string.h>

#include "util.h"

/* How far a branch leads; some less than it may, because another instruction or two may come between. */
#define NEAR 250

static unsigned prepend(struct lis_assembly *assembly, uint16_t code, uint32_t k, unsigned yes, unsigned no) {
    assembly->length++;
    if (assembly->length <= LIS_MAX_FILTER)
        assembly->code[LIS_MAX_FILTER - assembly->length] = (struct sock_filter){code, (uint8_t)yes, (uint8_t)no, k};
    return assembly->length;
}

unsigned lis_assembly_prepend(struct lis_assembly *assembly, const struct lis_filter *part) {
    for (size_t i = part->length < LIS_MAX_FILTER ? part->length : LIS_MAX_FILTER; i-- > 0;)
        prepend(assembly, part->code[i].code, part->code[i].k, part->code[i].jt, part->code[i].jf);
    if (part->length > LIS_MAX_FILTER)
        assembly->length = part->length;
    return assembly->length;
}

/* That place, or one that leads there. */
static unsigned in_reach(struct lis_assembly *assembly, unsigned at) {
    return assembly->length - at <= NEAR ? at : prepend(assembly, BPF_JMP | BPF_JA, assembly->length - at, 0, 0);
}

static unsigned find_answer(struct lis_assembly *assembly, uint32_t action) {
    size_t i = 0;
    while (i < assembly->nanswers && assembly->answers[i].action != action)
        i++;
    bool is_known = i < assembly->nanswers;
    if (is_known && assembly->length - assembly->answers[i].at <= NEAR)
        return assembly->answers[i].at;
    unsigned at = prepend(assembly, BPF_RET | BPF_K, action, 0, 0);
    if (i < LIS_COUNT(assembly->answers)) {
        assembly->answers[i].action = action;
        assembly->answers[i].at = at;
        assembly->nanswers += !is_known;
    }
    return at;
}

/* The place where these ranges are decided. */
static unsigned decide(struct lis_assembly *assembly, const struct lis_range ranges[], size_t count) {
    if (count == 1)
        return ranges[0].at ? ranges[0].at : find_answer(assembly, ranges[0].action);
    size_t half = count / 2;
    unsigned above = decide(assembly, ranges + half, count - half);
    unsigned below = decide(assembly, ranges, half);
    above = in_reach(assembly, above);
    below = in_reach(assembly, below);
    unsigned length = assembly->length;
    return prepend(assembly, BPF_JMP | BPF_JGE | BPF_K, ranges[half].first, length - above, length - below);
}

void lis_assembly_search(struct lis_assembly *assembly, const struct lis_range ranges[], size_t count) {
    decide(assembly, ranges, count);
}

int lis_assembly_finish(const struct lis_assembly *assembly, struct lis_filter *ret_filter) {
    if (assembly->length > LIS_MAX_FILTER)
        return -E2BIG;
    ret_filter->length = (uint16_t)assembly->length;
    memcpy(ret_filter->code, assembly->code + LIS_MAX_FILTER - assembly->length,
           assembly->length * sizeof *ret_filter->code);
    return 0;
}
