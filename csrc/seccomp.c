/* The filter of system calls: one program, an allow-list with the emulation of root merged in, because of two filters
 * that both answer with an error number it is a matter of order which one wins.
 *
 * It is assembled from the tables of syscalls.h, once in the spawner, into
 *
 *     another architecture, x32 -> ENOSYS          else a foreign table of numbers would open another way in
 *     binary search over ranges of numbers         kernels since 5.11 keep the answers that need no argument
 *     what the arguments decide, one block each
 *
 * PID 1 runs under it, too: commands inherit it and start no slower. So what protects PID 1 from programs with the same
 * ids must be told from what it does itself by the arguments alone: nobody needs to name process 1 to change it. */
#define _GNU_SOURCE
#include "lis.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "assembly.h"
#include "syscalls.h"
#include "util.h"

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error                                                                                                                 \
    "seccomp.c knows the system calls of x86-64 and arm64; add this architecture's AUDIT_ARCH and look at clone's arguments"
#endif

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4u
#endif
#ifndef SHM_HUGETLB
#define SHM_HUGETLB 04000
#endif
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif

#define NEW_NAMESPACES 0x7e020000u /* CLONE_NEW*, but for CLONE_NEWTIME, which clone takes for a signal's number */
#define UNSHARABLE (CLONE_FS | CLONE_SYSVSEM | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
#define SOCK_TYPE_MASK 0xfu /* the rest are SOCK_CLOEXEC and SOCK_NONBLOCK */
#define DENY(error) (SECCOMP_RET_ERRNO | (error))
#define PRETEND DENY(0)

/* What decides a call by its arguments. */
typedef void judge(struct lis_filter *filter, unsigned flags);

enum verdict { UNKNOWN, ALLOWED, REFUSED, PRETENDED, WITHOUT_XATTR, JUDGED };

static uint32_t action_of(enum verdict verdict, unsigned flags) {
    bool root = flags & LIS_FILTER_EMULATE_ROOT;
    switch (verdict) {
    case ALLOWED:
        return SECCOMP_RET_ALLOW;
    case REFUSED:
        return DENY(EPERM);
    case PRETENDED:
        return root && !(flags & LIS_FILTER_REAL_IDS) ? PRETEND : SECCOMP_RET_ALLOW;
    case WITHOUT_XATTR:
        return root ? DENY(EOPNOTSUPP) : SECCOMP_RET_ALLOW;
    default:
        return DENY(ENOSYS);
    }
}

static void emit(struct lis_filter *filter, uint16_t code, uint32_t k, uint8_t yes, uint8_t no) {
    if (filter->length < LIS_MAX_FILTER)
        filter->code[filter->length] = (struct sock_filter){code, yes, no, k};
    filter->length++; /* beyond the end it is an overflow, which lis_assembly_finish reports */
}

static void answer(struct lis_filter *filter, uint32_t action) {
    emit(filter, BPF_RET | BPF_K, action, 0, 0);
}

/* The low half of an argument: the kernel's own ints are no wider, and it ignores the rest (CVE-2019-7303). */
static void load_argument(struct lis_filter *filter, unsigned number) {
    emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, args) + 8 * number, 0, 0);
}

static void answer_if_equal(struct lis_filter *filter, uint32_t value, uint32_t action) {
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(filter, action);
}

static void judge_clone(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    load_argument(filter, 0);
    emit(filter, BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1);
    answer(filter, DENY(EPERM));
    /* a thread with descriptors of its own: the watchdog asks one thread of each process for all */
    emit(filter, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 2);
    emit(filter, BPF_JMP | BPF_JSET | BPF_K, CLONE_FILES, 1, 0);
    answer(filter, DENY(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

/* By what is allowed, unlike clone: kernels give it flags of its own that bring a namespace along. */
static void judge_unshare(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    load_argument(filter, 0);
    emit(filter, BPF_JMP | BPF_JSET | BPF_K, ~(uint32_t)UNSHARABLE, 0, 1);
    answer(filter, DENY(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

/* Putting characters into a terminal's input, which another process then reads; and line disciplines, whose modules
 * anybody could have loaded. */
static void judge_ioctl(struct lis_filter *filter, unsigned flags) {
    static const uint32_t refused[] = {TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS};
    (void)flags;
    load_argument(filter, 1);
    for (size_t i = 0; i < LIS_COUNT(refused); i++)
        answer_if_equal(filter, refused[i], DENY(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

/* Families by name: each one is code of the kernel that any user can reach (AF_ALG: CVE-2026-31431). Of the internet's
 * protocols those that programs use; asked for multipath TCP, they fall back. And types, because with protocol 0 a type
 * alone names DCCP or SCTP, and AF_INET with SOCK_PACKET is AF_PACKET. */
static void judge_socket(struct lis_filter *filter, unsigned flags) {
    static const uint32_t types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW};
    static const uint32_t protocols[] = {0, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6};
    load_argument(filter, 0);
    answer_if_equal(filter, AF_UNIX, SECCOMP_RET_ALLOW);
    if (flags & LIS_FILTER_LOCAL_SOCKETS) {
        answer(filter, DENY(EAFNOSUPPORT));
        return;
    }
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 3);
    load_argument(filter, 2);
    answer_if_equal(filter, NETLINK_ROUTE, SECCOMP_RET_ALLOW); /* one instruction to load, two to answer */
    load_argument(filter, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0);
    answer(filter, DENY(EAFNOSUPPORT));
    load_argument(filter, 1);
    emit(filter, BPF_ALU | BPF_AND | BPF_K, SOCK_TYPE_MASK, 0, 0);
    for (uint8_t i = 0; i < LIS_COUNT(types); i++) /* past the other types and the refusal */
        emit(filter, BPF_JMP | BPF_JEQ | BPF_K, types[i], (uint8_t)(LIS_COUNT(types) - i), 0);
    answer(filter, DENY(ESOCKTNOSUPPORT));
    load_argument(filter, 2);
    for (size_t i = 0; i < LIS_COUNT(protocols); i++)
        answer_if_equal(filter, protocols[i], SECCOMP_RET_ALLOW);
    answer(filter, DENY(EPROTONOSUPPORT));
}

static void judge_socketpair(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    load_argument(filter, 0);
    answer_if_equal(filter, AF_UNIX, SECCOMP_RET_ALLOW);
    answer(filter, DENY(EAFNOSUPPORT));
}

/* What asks, what 64-bit programs and their 32-bit relatives have, and what debuggers switch off. */
static void judge_personality(struct lis_filter *filter, unsigned flags) {
    static const uint32_t known[] = {PER_LINUX, PER_LINUX32, 0x20000, 0x20008, ADDR_NO_RANDOMIZE, 0xffffffff};
    (void)flags;
    load_argument(filter, 0);
    for (size_t i = 0; i < LIS_COUNT(known); i++)
        answer_if_equal(filter, known[i], SECCOMP_RET_ALLOW);
    answer(filter, DENY(EPERM));
}

/* PID 1 reads the marks of all others with it (tree.c), and nobody changes PID 1's. */
static void judge_prlimit64(struct lis_filter *filter, unsigned flags) {
    const uint32_t new_limit = (uint32_t)offsetof(struct seccomp_data, args) + 8 * 2;
    (void)flags;
    load_argument(filter, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0);
    answer(filter, SECCOMP_RET_ALLOW);
    emit(filter, BPF_LD | BPF_W | BPF_ABS, new_limit, 0, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
    answer(filter, DENY(EPERM));
    emit(filter, BPF_LD | BPF_W | BPF_ABS, new_limit + 4, 0, 0);
    answer_if_equal(filter, 0, SECCOMP_RET_ALLOW);
    answer(filter, DENY(EPERM));
}

/* (which, who): of a process, a group, or all of the user's, PID 1 with them. `everybody` is the number of the last. */
static void judge_whole(struct lis_filter *filter, uint32_t everybody) {
    load_argument(filter, 0);
    answer_if_equal(filter, everybody, DENY(EPERM));
    load_argument(filter, 1);
    answer_if_equal(filter, 1, DENY(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

static void judge_setpriority(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    judge_whole(filter, PRIO_USER);
}

static void judge_ioprio_set(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    judge_whole(filter, 3); /* IOPRIO_WHO_USER, which no header of libc's has */
}

/* Everybody but PID 1. Signals with a sender of one's own choice among them: PID 1 believes those from outside. */
static void judge_pid(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    load_argument(filter, 0);
    answer_if_equal(filter, 1, DENY(EPERM));
    answer(filter, SECCOMP_RET_ALLOW);
}

/* With information of the sender's own choice, or as kill() does it. */
static void judge_pidfd_send_signal(struct lis_filter *filter, unsigned flags) {
    const uint32_t info = (uint32_t)offsetof(struct seccomp_data, args) + 8 * 2;
    (void)flags;
    for (uint32_t half = 0; half <= 4; half += 4) {
        emit(filter, BPF_LD | BPF_W | BPF_ABS, info + half, 0, 0);
        emit(filter, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
        answer(filter, DENY(EPERM));
    }
    answer(filter, SECCOMP_RET_ALLOW);
}

/* A flag that is refused, as if the kernel were older, or had none to give. */
static void judge_flag(struct lis_filter *filter, unsigned argument, uint32_t flag, int error) {
    load_argument(filter, argument);
    emit(filter, BPF_JMP | BPF_JSET | BPF_K, flag, 0, 1);
    answer(filter, DENY((uint32_t)error));
    answer(filter, SECCOMP_RET_ALLOW);
}

/* Huge pages that are set aside for somebody, whom no group and no watchdog charges for them. */
static void judge_mmap(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    judge_flag(filter, 3, MAP_HUGETLB, ENOMEM);
}

static void judge_memfd_create(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    judge_flag(filter, 1, MFD_HUGETLB, ENOMEM);
}

static void judge_shmget(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    judge_flag(filter, 2, SHM_HUGETLB, ENOMEM);
}

static void judge_close_range(struct lis_filter *filter, unsigned flags) {
    (void)flags;
    judge_flag(filter, 2, 2 /* CLOSE_RANGE_UNSHARE: see judge_clone */, EINVAL);
}

static void judge_affinity(struct lis_filter *filter, unsigned flags) {
    if (flags & LIS_FILTER_KEEP_CPUS)
        answer(filter, DENY(EPERM));
    else
        judge_pid(filter, flags);
}

static void judge_node(struct lis_filter *filter, unsigned flags, unsigned mode) {
    const uint32_t refusal = flags & LIS_FILTER_EMULATE_ROOT ? PRETEND : DENY(EPERM);
    load_argument(filter, mode);
    emit(filter, BPF_ALU | BPF_AND | BPF_K, S_IFMT, 0, 0);
    answer_if_equal(filter, S_IFCHR, refusal); /* a whiteout of overlayfs is one, too */
    answer_if_equal(filter, S_IFBLK, refusal);
    answer(filter, SECCOMP_RET_ALLOW);
}

static void judge_mknod(struct lis_filter *filter, unsigned flags) {
    judge_node(filter, flags, 1);
}

static void judge_mknodat(struct lis_filter *filter, unsigned flags) {
    judge_node(filter, flags, 2);
}

/* -1 is how one asks. */
static void judge_setfsid(struct lis_filter *filter, unsigned flags) {
    load_argument(filter, 0);
    answer_if_equal(filter, 0xffffffff, SECCOMP_RET_ALLOW);
    answer(filter, action_of(PRETENDED, flags));
}

#define judge_rt_sigqueueinfo judge_pid
#define judge_rt_tgsigqueueinfo judge_pid
#define judge_sched_setattr judge_pid
#define judge_sched_setparam judge_pid
#define judge_sched_setscheduler judge_pid
#define judge_sched_setaffinity judge_affinity
#define judge_setfsuid judge_setfsid
#define judge_setfsgid judge_setfsid

/* The number as text: a call that this architecture does not have then stays a name, and is left out at run time. */
#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

static const struct {
    const char *number;
    judge *judge;
    enum verdict verdict;
} table[] = {
#define ROW(name) {NUMBER(SYS_##name), NULL, ALLOWED},
    LIS_SYSCALLS_ALLOWED(ROW)
#undef ROW
#define ROW(name) {NUMBER(SYS_##name), NULL, REFUSED},
        LIS_SYSCALLS_REFUSED(ROW)
#undef ROW
#define ROW(name) {NUMBER(SYS_##name), NULL, PRETENDED},
            LIS_SYSCALLS_PRETENDED(ROW)
#undef ROW
#define ROW(name) {NUMBER(SYS_##name), NULL, WITHOUT_XATTR},
                LIS_SYSCALLS_WITHOUT_XATTR(ROW)
#undef ROW
#define ROW(name) {NUMBER(SYS_##name), judge_##name, JUDGED},
                    LIS_SYSCALLS_JUDGED(ROW)
#undef ROW
};

#define HIGHEST_NUMBER 1024u

/* The answers in order of the numbers, neighbours with the same answer as one. */
static size_t collect_ranges(unsigned flags, struct lis_range ranges[HIGHEST_NUMBER], judge *judges[HIGHEST_NUMBER]) {
    uint32_t actions[HIGHEST_NUMBER];
    judge *by_number[HIGHEST_NUMBER] = {NULL};
    for (size_t i = 0; i < LIS_COUNT(actions); i++)
        actions[i] = DENY(ENOSYS);
    for (size_t i = 0; i < LIS_COUNT(table); i++) {
        char *end;
        unsigned long number = strtoul(table[i].number, &end, 10);
        if (*end == 0 && number < HIGHEST_NUMBER) {
            actions[number] = action_of(table[i].verdict, flags);
            by_number[number] = table[i].judge;
        }
    }
    size_t count = 0;
    for (uint32_t number = 0; number < HIGHEST_NUMBER; number++)
        if (number == 0 || by_number[number] || by_number[number - 1] || actions[number] != actions[number - 1]) {
            ranges[count] = (struct lis_range){.first = number, .action = actions[number]};
            judges[count++] = by_number[number];
        }
    return count; /* the last one is ENOSYS, and holds for all that is above */
}

static void check_architecture(struct lis_filter *filter) {
    emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, arch), 0, 0);
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
    answer(filter, DENY(ENOSYS));
    emit(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr), 0, 0);
#ifdef X32_BIT
    emit(filter, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(filter, DENY(ENOSYS));
#endif
}

int lis_filter_build(unsigned flags, struct lis_filter *ret_filter) {
    struct work {
        struct lis_range ranges[HIGHEST_NUMBER];
        judge *judges[HIGHEST_NUMBER];
        struct lis_filter part;
        struct lis_assembly assembly;
    };
    cleanup_free struct work *work = calloc(1, sizeof *work);
    if (!work)
        return -ENOMEM;
    size_t count = collect_ranges(flags, work->ranges, work->judges);
    for (size_t i = count; i-- > 0;)
        if (work->judges[i]) {
            work->part.length = 0;
            work->judges[i](&work->part, flags);
            work->ranges[i].at = lis_assembly_prepend(&work->assembly, &work->part);
        }
    lis_assembly_search(&work->assembly, work->ranges, count);
    work->part.length = 0;
    check_architecture(&work->part);
    lis_assembly_prepend(&work->assembly, &work->part);
    return lis_assembly_finish(&work->assembly, ret_filter);
}

int lis_filter_load(struct lis_filter *filter) {
    struct sock_fprog program = {filter->length, filter->code};
    /* SPEC_ALLOW: without it kernels before 5.16 switch speculation off for the process, at a fifth of its speed */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0)
        return 0;
    if (errno == EINVAL && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
        return 0;
    return -errno;
}
