/* A judge of filters: the kernel's rules for a seccomp program, and an interpreter of the few instructions that ours are
 * made of. Anything else that turns up is a failure, because nobody has looked at what it would do. */
#pragma once

#include <linux/bpf_common.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BPF_BROKEN 0xdeadbeefu /* no answer of seccomp's */

/* What the kernel would refuse to load (bpf_check_classic, seccomp_check_filter). Jumps only go forward, so that a program
 * whose last instruction answers always comes to an end. NULL, or what is wrong. */
static inline const char *bpf_fault(const struct sock_filter code[], size_t length) {
    if (length == 0 || length > 4096) /* BPF_MAXINSNS */
        return "its length";
    if (code[length - 1].code != (BPF_RET | BPF_K))
        return "no answer at its end";
    for (size_t at = 0; at < length; at++) {
        const struct sock_filter *step = &code[at];
        size_t left = length - at - 1; /* a jump of `left` would land behind the end */
        switch (step->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            if (step->k % 4 || step->k >= sizeof(struct seccomp_data))
                return "a load from outside of the data";
            break;
        case BPF_JMP | BPF_JA:
            if (step->k >= left)
                return "a jump behind its end";
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
        case BPF_JMP | BPF_JGE | BPF_K:
        case BPF_JMP | BPF_JSET | BPF_K:
            if (step->jt >= left || step->jf >= left)
                return "a branch behind its end";
            break;
        case BPF_ALU | BPF_AND | BPF_K:
        case BPF_RET | BPF_K:
            break;
        default:
            return "an instruction that nobody has looked at";
        }
    }
    return NULL;
}

/* What the program answers. It must have no fault. */
static inline uint32_t bpf_run(const struct sock_filter code[], const struct seccomp_data *data) {
    uint32_t a = 0;
    for (size_t at = 0;; at++) {
        const struct sock_filter *step = &code[at];
        switch (step->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            memcpy(&a, (const char *)data + step->k, sizeof a);
            break;
        case BPF_JMP | BPF_JA:
            at += step->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += a == step->k ? step->jt : step->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += a >= step->k ? step->jt : step->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            at += a & step->k ? step->jt : step->jf;
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= step->k;
            break;
        case BPF_RET | BPF_K:
            return step->k;
        default:
            return BPF_BROKEN;
        }
    }
}
