/* The filter of system calls, asked about every call there is: with an interpreter (bpf.h), because the kernel would make
 * the calls that it allows. What the kernel makes of the filter, tests/escape/ tries in sandboxes. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lis.h"
#include "syscalls.h"

#include "bpf.h"
#include "tap.h"

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

#define ALLOW SECCOMP_RET_ALLOW
#define ERRNO(number) (SECCOMP_RET_ERRNO | (number))
#define HIGH (1ull << 40)
#define MINUS_ONE 0xffffffffffffffffull
#define COUNT(array) (sizeof(array) / sizeof *(array))

#define ROOT LIS_FILTER_EMULATE_ROOT
#define IDS LIS_FILTER_REAL_IDS
#define CPUS LIS_FILTER_KEEP_CPUS
#define LOCAL LIS_FILTER_LOCAL_SOCKETS
#define EITHER 0x80u /* as `flags` of a case: the answer is the same under all */

static struct lis_filter filters[LIS_FILTER_FLAGS + 1];

static uint32_t ask_as(unsigned flags, uint32_t arch, uint32_t number, const uint64_t args[6]) {
    struct seccomp_data data = {.nr = (int)number, .arch = arch};
    memcpy(data.args, args, sizeof data.args);
    return bpf_run(filters[flags].code, &data);
}

static uint32_t ask(unsigned flags, uint32_t number, const uint64_t args[6]) {
    return ask_as(flags, NATIVE, number, args);
}

/* ---- the lists ---------------------------------------------------------------------------------------------------- */

enum list { NONE, ALLOWED, REFUSED, PRETENDED, WITHOUT_XATTR, JUDGED };

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
#define ALLOWED_ROW(name) {#name, NUMBER(SYS_##name), ALLOWED},
#define REFUSED_ROW(name) {#name, NUMBER(SYS_##name), REFUSED},
#define PRETENDED_ROW(name) {#name, NUMBER(SYS_##name), PRETENDED},
#define WITHOUT_XATTR_ROW(name) {#name, NUMBER(SYS_##name), WITHOUT_XATTR},
#define JUDGED_ROW(name) {#name, NUMBER(SYS_##name), JUDGED},

static const struct row {
    const char *name, *number;
    enum list list;
} rows[] = {LIS_SYSCALLS_ALLOWED(ALLOWED_ROW) LIS_SYSCALLS_REFUSED(REFUSED_ROW) LIS_SYSCALLS_PRETENDED(PRETENDED_ROW)
                LIS_SYSCALLS_WITHOUT_XATTR(WITHOUT_XATTR_ROW) LIS_SYSCALLS_JUDGED(JUDGED_ROW)};

static uint32_t verdict(enum list list, unsigned flags) {
    const bool root = flags & ROOT;
    switch (list) {
    case ALLOWED:
        return ALLOW;
    case REFUSED:
        return ERRNO(EPERM);
    case PRETENDED:
        return root && !(flags & IDS) ? ERRNO(0) : ALLOW;
    case WITHOUT_XATTR:
        return root ? ERRNO(EOPNOTSUPP) : ALLOW;
    default:
        return ERRNO(ENOSYS);
    }
}

/* The row of each number, NULL where no list has it. A call this architecture lacks has no number, only its name again. */
#define NUMBERS 2048u
static const struct row *by_number[NUMBERS];

static void read_lists(void) {
    unsigned known = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *end;
        unsigned long number = strtoul(rows[i].number, &end, 10);
        if (*end)
            continue;
        known++;
        if (number >= NUMBERS || by_number[number]) {
            check(false, "%s, number %lu, stands in one list", rows[i].name, number);
            continue;
        }
        by_number[number] = &rows[i];
    }
    check(known > 300, "the lists name %u calls of this architecture", known);
}

static void test_lists(unsigned flags) {
    static const uint64_t odd[][6] = {{0}, {MINUS_ONE, MINUS_ONE, MINUS_ONE, MINUS_ONE, MINUS_ONE, MINUS_ONE}};
    unsigned wrong = 0, answered[JUDGED + 1] = {0};
    for (uint32_t number = 0; number < NUMBERS; number++) {
        enum list list = by_number[number] ? by_number[number]->list : NONE;
        answered[list]++;
        for (size_t i = 0; list != JUDGED && i < COUNT(odd); i++)
            if (ask(flags, number, odd[i]) != verdict(list, flags)) {
                wrong++;
                printf("# %u (%s): %#x\n", number, by_number[number] ? by_number[number]->name : "in no list",
                       ask(flags, number, odd[i]));
            }
    }
    check(wrong == 0, "flags %u: each number answers as its list says, whatever its arguments", flags);
    for (enum list list = NONE; list <= JUDGED; list++)
        check(answered[list] > 0, "flags %u: list %u has rows", flags, list);
}

/* What must never move to another list by an edit of syscalls.h. */
#define NEVER(name) {#name, SYS_##name}
static const struct {
    const char *name;
    uint32_t number;
} never[] = {
    NEVER(mount),
    NEVER(umount2),
    NEVER(pivot_root),
    NEVER(chroot),
    NEVER(setns),
    NEVER(open_tree),
    NEVER(move_mount),
    NEVER(fsopen),
    NEVER(fsmount),
    NEVER(fsconfig),
    NEVER(fspick),
    NEVER(mount_setattr),
    NEVER(bpf),
    NEVER(perf_event_open),
    NEVER(userfaultfd),
    NEVER(keyctl),
    NEVER(add_key),
    NEVER(request_key),
    NEVER(kexec_load),
    NEVER(init_module),
    NEVER(finit_module),
    NEVER(delete_module),
    NEVER(reboot),
    NEVER(swapon),
    NEVER(swapoff),
    NEVER(acct),
    NEVER(quotactl),
    NEVER(syslog),
    NEVER(open_by_handle_at),
    NEVER(pidfd_getfd),
    NEVER(kcmp),
    NEVER(process_madvise),
    NEVER(vmsplice),
    NEVER(move_pages),
    NEVER(migrate_pages),
    NEVER(fanotify_init),
    NEVER(settimeofday),
    NEVER(clock_settime),
    NEVER(clock_adjtime),
    NEVER(adjtimex),
    NEVER(sethostname),
    NEVER(setdomainname),
    NEVER(vhangup),
    NEVER(io_uring_setup),
    NEVER(io_uring_enter),
    NEVER(io_uring_register),
    NEVER(clone3),
    {"memfd_secret", 447},
    {"listns", 470},
};

static void test_never(unsigned flags) {
    for (size_t i = 0; i < COUNT(never); i++) {
        uint32_t got = ask(flags, never[i].number, (uint64_t[6]){0});
        check(got == ERRNO(EPERM) || got == ERRNO(ENOSYS), "flags %u: %s is never allowed", flags, never[i].name);
    }
}

static void test_foreign(unsigned flags) {
    static const uint32_t arches[] = {
        AUDIT_ARCH_I386,      AUDIT_ARCH_ARM,
        AUDIT_ARCH_RISCV64,   AUDIT_ARCH_PPC64LE,
        AUDIT_ARCH_S390X,     AUDIT_ARCH_ARMEB,
        AUDIT_ARCH_MIPSEL64,  0,
        0xffffffff,           NATIVE ^ 0x80000000u,
        NATIVE ^ 0x40000000u, NATIVE == AUDIT_ARCH_X86_64 ? AUDIT_ARCH_AARCH64 : AUDIT_ARCH_X86_64};
    unsigned allowed = 0;
    for (size_t i = 0; i < COUNT(arches); i++)
        for (uint32_t number = 0; number < NUMBERS; number++)
            allowed += ask_as(flags, arches[i], number, (uint64_t[6]){0}) != ERRNO(ENOSYS);
    check(allowed == 0, "flags %u: nothing is answered to another architecture", flags);
    for (uint32_t number = 0; number < NUMBERS; number++)
        allowed += ask(flags, 0x40000000u + number, (uint64_t[6]){0}) != ERRNO(ENOSYS);
    check(allowed == 0, "flags %u: nothing by the numbers of x32", flags);
    static const uint32_t odd[] = {0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff};
    for (size_t i = 0; i < COUNT(odd); i++)
        check(ask(flags, odd[i], (uint64_t[6]){0}) == ERRNO(ENOSYS), "flags %u: number %#x is unknown", flags, odd[i]);
}

/* ---- the judges ----------------------------------------------------------------------------------------------------- */

#define THREAD                                                                                                         \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |                 \
     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define CASE(name, answer, ...) {#name "(" #__VA_ARGS__ ")", SYS_##name, {__VA_ARGS__}, answer, EITHER}
#define CASE_IF(name, with, answer, ...) {#name "(" #__VA_ARGS__ ")", SYS_##name, {__VA_ARGS__}, answer, with}

static const struct judged {
    const char *what;
    uint32_t number;
    uint64_t args[6];
    uint32_t answer;
    unsigned flags;
} cases[] = {
    CASE(clone, ALLOW, SIGCHLD),
    CASE(clone, ALLOW, THREAD),
    CASE(clone, ALLOW, CLONE_VM | CLONE_VFORK | SIGCHLD),
    CASE(clone, ALLOW, CLONE_PARENT | SIGCHLD),
    CASE(clone, ALLOW, HIGH | SIGCHLD),
    CASE(clone, ERRNO(EPERM), CLONE_NEWUSER),
    CASE(clone, ERRNO(EPERM), CLONE_NEWNS | SIGCHLD),
    CASE(clone, ERRNO(EPERM), CLONE_NEWPID | SIGCHLD),
    CASE(clone, ERRNO(EPERM), CLONE_NEWNET | SIGCHLD),
    CASE(clone, ERRNO(EPERM), CLONE_NEWIPC | SIGCHLD),
    CASE(clone, ERRNO(EPERM), CLONE_NEWUTS | SIGCHLD),
    CASE(clone, ERRNO(EPERM), CLONE_NEWCGROUP | SIGCHLD),
    CASE(clone, ERRNO(EPERM), THREAD | CLONE_NEWUSER),
    CASE(clone, ERRNO(EPERM), HIGH | CLONE_NEWUSER),
    CASE(clone, ERRNO(EPERM), MINUS_ONE),
    CASE(unshare, ERRNO(EPERM), CLONE_FILES),
    CASE(clone, ERRNO(EPERM), CLONE_VM | CLONE_SIGHAND | CLONE_THREAD),
    CASE(clone, ALLOW, CLONE_VM | CLONE_VFORK),
    CASE(pidfd_send_signal, ALLOW, 5, 9, 0, 0),
    CASE(pidfd_send_signal, ERRNO(EPERM), 5, 9, 4096, 0),
    CASE(pidfd_send_signal, ERRNO(EPERM), 5, 9, HIGH, 0),
    CASE(mmap, ALLOW, 0, 4096, 3, 0x22, MINUS_ONE, 0),
    CASE(mmap, ERRNO(ENOMEM), 0, 4096, 3, 0x40022, MINUS_ONE, 0),
    CASE(memfd_create, ALLOW, 4096, 1),
    CASE(memfd_create, ERRNO(ENOMEM), 4096, 4),
    CASE(shmget, ALLOW, 0, 4096, 01600),
    CASE(shmget, ERRNO(ENOMEM), 0, 4096, 05600),
    CASE(close_range, ALLOW, 3, MINUS_ONE, 4),
    CASE(close_range, ERRNO(EINVAL), 3, MINUS_ONE, 2),
    CASE(unshare, ALLOW, CLONE_FS | CLONE_SYSVSEM),
    CASE(unshare, ALLOW, 0),
    CASE(unshare, ERRNO(EPERM), CLONE_NEWUSER),
    CASE(unshare, ERRNO(EPERM), CLONE_NEWNS | CLONE_FS),
    CASE(unshare, ERRNO(EPERM), HIGH | CLONE_NEWNET),
    CASE(unshare, ERRNO(EPERM), 0x80 /* CLONE_NEWTIME */),
    CASE(unshare, ERRNO(EPERM), 0x00100000 /* a flag of kernels to come */),
    CASE(unshare, ERRNO(EPERM), MINUS_ONE),
    CASE(ioctl, ALLOW, 0, TCGETS),
    CASE(ioctl, ALLOW, 0, FIONREAD),
    CASE(ioctl, ALLOW, 0, TIOCSWINSZ),
    CASE(ioctl, ERRNO(EPERM), 0, TIOCSTI),
    CASE(ioctl, ERRNO(EPERM), 0, HIGH | TIOCSTI),
    CASE(ioctl, ERRNO(EPERM), 0, 0xffffffff00000000ull | TIOCSTI),
    CASE(ioctl, ERRNO(EPERM), 0, TIOCLINUX),
    CASE(ioctl, ERRNO(EPERM), 0, HIGH | TIOCLINUX),
    CASE(ioctl, ERRNO(EPERM), 0, TIOCSETD),
    CASE(ioctl, ERRNO(EPERM), 0, TIOCCONS),
    CASE(socket, ALLOW, AF_UNIX, SOCK_STREAM),
    CASE(socket, ALLOW, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK),
    CASE(socket, ALLOW, HIGH | AF_UNIX, SOCK_STREAM),
    CASE_IF(socket, 0, ALLOW, AF_INET, SOCK_STREAM),
    CASE_IF(socket, 0, ALLOW, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP),
    CASE_IF(socket, 0, ALLOW, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP),
    CASE_IF(socket, 0, ALLOW, AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
    CASE_IF(socket, 0, ALLOW, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6),
    CASE_IF(socket, 0, ALLOW, AF_INET, SOCK_RAW, IPPROTO_ICMP), /* the kernel wants a capability, and says so */
    CASE_IF(socket, 0, ERRNO(EPROTONOSUPPORT), AF_INET, SOCK_STREAM, 132 /* SCTP */),
    CASE_IF(socket, 0, ERRNO(EPROTONOSUPPORT), AF_INET, SOCK_STREAM, 262 /* MPTCP */),
    CASE_IF(socket, 0, ERRNO(EPROTONOSUPPORT), AF_INET6, SOCK_STREAM, 256 /* SMC */),
    CASE_IF(socket, 0, ERRNO(EPROTONOSUPPORT), AF_INET, SOCK_DGRAM, 136 /* UDPLITE */),
    CASE_IF(socket, 0, ERRNO(EPROTONOSUPPORT), AF_INET, SOCK_RAW, 255 /* RAW */),
    CASE_IF(socket, 0, ERRNO(ESOCKTNOSUPPORT), AF_INET, SOCK_PACKET, 0),
    CASE_IF(socket, 0, ERRNO(ESOCKTNOSUPPORT), AF_INET, SOCK_PACKET | SOCK_CLOEXEC, IPPROTO_TCP),
    CASE_IF(socket, 0, ERRNO(ESOCKTNOSUPPORT), AF_INET, SOCK_DCCP, 0),
    CASE_IF(socket, 0, ERRNO(ESOCKTNOSUPPORT), AF_INET6, SOCK_SEQPACKET, 0),
    CASE_IF(socket, 0, ERRNO(ESOCKTNOSUPPORT), AF_INET, HIGH | SOCK_PACKET, 0),
    CASE_IF(socket, 0, ALLOW, AF_NETLINK, SOCK_RAW, 0 /* ROUTE */),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_NETLINK, SOCK_RAW, 12 /* NETFILTER */),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_NETLINK, SOCK_RAW, 6 /* XFRM */),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_NETLINK, SOCK_RAW, 16 /* GENERIC */),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_NETLINK, SOCK_RAW, AF_INET),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_NETLINK, SOCK_RAW, AF_INET6),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_ALG, SOCK_SEQPACKET),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), HIGH | AF_ALG, SOCK_SEQPACKET),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_VSOCK, SOCK_STREAM),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_PACKET, SOCK_RAW),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_TIPC, SOCK_STREAM),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), AF_UNSPEC, SOCK_STREAM),
    CASE_IF(socket, LOCAL, ERRNO(EAFNOSUPPORT), AF_INET, SOCK_STREAM),
    CASE_IF(socket, LOCAL, ERRNO(EAFNOSUPPORT), AF_INET6, SOCK_DGRAM, IPPROTO_UDP),
    CASE_IF(socket, LOCAL, ERRNO(EAFNOSUPPORT), AF_NETLINK, SOCK_RAW, 0 /* ROUTE */),
    CASE_IF(socket, LOCAL, ERRNO(EAFNOSUPPORT), AF_VSOCK, SOCK_STREAM),
    CASE_IF(socket, 0, ERRNO(EAFNOSUPPORT), MINUS_ONE, SOCK_STREAM),
    CASE(socketpair, ALLOW, AF_UNIX, SOCK_STREAM),
    CASE(socketpair, ERRNO(EAFNOSUPPORT), AF_TIPC, SOCK_STREAM),
    CASE(socketpair, ERRNO(EAFNOSUPPORT), AF_INET, SOCK_STREAM),
    CASE(personality, ALLOW, 0),
    CASE(personality, ALLOW, 8 /* PER_LINUX32 */),
    CASE(personality, ALLOW, 0x0040000 /* ADDR_NO_RANDOMIZE */),
    CASE(personality, ALLOW, 0xffffffff),
    CASE(personality, ERRNO(EPERM), 0x0400000 /* READ_IMPLIES_EXEC */),
    CASE(personality, ERRNO(EPERM), HIGH | 0x0400000),
    CASE(personality, ERRNO(EPERM), 0x0100000 /* MMAP_PAGE_ZERO */),
    CASE(prlimit64, ALLOW, 0, RLIMIT_NOFILE, 0x1000, 0),
    CASE(prlimit64, ALLOW, 2, RLIMIT_NOFILE, 0x1000, 0),
    CASE(prlimit64, ALLOW, 1, RLIMIT_NOFILE, 0, 0x1000),
    CASE(prlimit64, ERRNO(EPERM), 1, RLIMIT_NOFILE, 0x1000, 0),
    CASE(prlimit64, ERRNO(EPERM), 1, RLIMIT_NOFILE, HIGH, 0), /* a pointer whose low half is 0 */
    CASE(prlimit64, ERRNO(EPERM), HIGH | 1, RLIMIT_NOFILE, 0x1000, 0),
    CASE(prlimit64, ALLOW, HIGH | 1, RLIMIT_NOFILE, 0, 0x1000),
    CASE(setpriority, ALLOW, PRIO_PROCESS, 0, 5),
    CASE(setpriority, ALLOW, PRIO_PGRP, 0, 5),
    CASE(setpriority, ALLOW, PRIO_PROCESS, 7, 5),
    CASE(setpriority, ERRNO(EPERM), PRIO_PROCESS, 1, 19),
    CASE(setpriority, ERRNO(EPERM), PRIO_PGRP, 1, 19),
    CASE(setpriority, ERRNO(EPERM), PRIO_PROCESS, HIGH | 1, 19),
    CASE(setpriority, ERRNO(EPERM), PRIO_USER, 0, 19),
    CASE(setpriority, ERRNO(EPERM), HIGH | PRIO_USER, 0, 19),
    CASE(ioprio_set, ALLOW, 1 /* PROCESS */, 0, 0),
    CASE(ioprio_set, ERRNO(EPERM), 1, 1, 0),
    CASE(ioprio_set, ERRNO(EPERM), 2 /* GROUP */, 1, 0),
    CASE(ioprio_set, ERRNO(EPERM), 3 /* USER */, 0, 0),
    CASE(ioprio_set, ERRNO(EPERM), HIGH | 3, 0, 0),
    CASE(sched_setscheduler, ALLOW, 0),
    CASE(sched_setscheduler, ERRNO(EPERM), 1),
    CASE(sched_setscheduler, ERRNO(EPERM), HIGH | 1),
    CASE(sched_setparam, ALLOW, 2),
    CASE(sched_setparam, ERRNO(EPERM), 1),
    CASE(sched_setattr, ALLOW, 0),
    CASE(sched_setattr, ERRNO(EPERM), 1),
    CASE_IF(sched_setaffinity, 0, ALLOW, 0),
    CASE_IF(sched_setaffinity, 0, ERRNO(EPERM), 1),
    CASE_IF(sched_setaffinity, CPUS, ERRNO(EPERM), 0),
    CASE_IF(sched_setaffinity, CPUS, ERRNO(EPERM), 1),
    CASE(rt_sigqueueinfo, ALLOW, 2),
    CASE(rt_sigqueueinfo, ERRNO(EPERM), 1, SIGCHLD),
    CASE(rt_sigqueueinfo, ERRNO(EPERM), HIGH | 1, SIGCHLD),
    CASE(rt_tgsigqueueinfo, ALLOW, 2, 2),
    CASE(rt_tgsigqueueinfo, ERRNO(EPERM), 1, 1),
    CASE(mknodat, ALLOW, 0, 0, S_IFIFO | 0600),
    CASE(mknodat, ALLOW, 0, 0, S_IFSOCK | 0600),
    CASE(mknodat, ALLOW, 0, 0, S_IFREG | 0600),
    CASE(mknodat, ALLOW, 0, 0, 0600),
    CASE_IF(mknodat, ROOT, ERRNO(0), 0, 0, S_IFCHR | 0600),
    CASE_IF(mknodat, ROOT, ERRNO(0), 0, 0, HIGH | S_IFBLK | 07777),
    CASE_IF(mknodat, 0, ERRNO(EPERM), 0, 0, S_IFCHR | 0600),
    CASE_IF(mknodat, 0, ERRNO(EPERM), 0, 0, HIGH | S_IFBLK),
    CASE(setfsuid, ALLOW, MINUS_ONE),
    CASE(setfsgid, ALLOW, 0xffffffff),
    CASE_IF(setfsuid, ROOT, ERRNO(0), 1000),
    CASE_IF(setfsgid, ROOT, ERRNO(0), 1000),
    CASE_IF(setfsuid, ROOT | IDS, ALLOW, 1000),
    CASE_IF(setfsgid, ROOT | IDS, ALLOW, 1000),
    CASE_IF(setfsuid, 0, ALLOW, 1000),
#ifdef SYS_mknod
    CASE(mknod, ALLOW, 0, S_IFIFO | 0600),
    CASE_IF(mknod, ROOT, ERRNO(0), 0, S_IFCHR | 0600),
    CASE_IF(mknod, ROOT, ERRNO(0), 0, S_IFCHR, 0 /* a whiteout */),
    CASE_IF(mknod, 0, ERRNO(EPERM), 0, S_IFBLK | 0600),
#endif
};

static bool applies(const struct judged *one, unsigned flags) {
    const bool is_fsid = one->number == SYS_setfsuid || one->number == SYS_setfsgid;
    unsigned decides = one->number == SYS_sched_setaffinity ? CPUS
                       : one->number == SYS_socket          ? LOCAL
                       : is_fsid                            ? ROOT | IDS
                                                            : ROOT;
    return one->flags == EITHER || (flags & decides) == one->flags;
}

static void test_judges(unsigned flags) {
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (!applies(&cases[i], flags))
            continue;
        uint32_t got = ask(flags, cases[i].number, cases[i].args);
        check(got == cases[i].answer, "flags %u: %s is answered %#x", flags, cases[i].what, cases[i].answer);
        if (got != cases[i].answer)
            printf("# it was %#x\n", got);
    }
}

static void test_every_judge_has_cases(void) {
    for (uint32_t number = 0; number < NUMBERS; number++) {
        if (!by_number[number] || by_number[number]->list != JUDGED)
            continue;
        bool found = false;
        for (size_t i = 0; i < COUNT(cases); i++)
            found |= cases[i].number == number;
        check(found, "there are cases for %s", by_number[number]->name);
    }
}

int main(void) {
    read_lists();
    for (unsigned flags = 0; flags <= LIS_FILTER_FLAGS; flags++) {
        check(lis_filter_build(flags, &filters[flags]) == 0, "flags %u: the filter is built", flags);
        const char *fault = bpf_fault(filters[flags].code, filters[flags].length);
        check(!fault, "flags %u: the kernel would take all %u instructions of it (%s)", flags, filters[flags].length,
              fault ? fault : "no fault");
        if (fault)
            return tap_done(); /* the interpreter could run away */
        check(filters[flags].length <= LIS_MAX_FILTER, "flags %u: it fits", flags);
        test_lists(flags);
        test_never(flags);
        test_foreign(flags);
        test_judges(flags);
    }
    test_every_judge_has_cases();
    return tap_done();
}
