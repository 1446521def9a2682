/* Every system call that a program in a sandbox may make, by what becomes of it. What is in no list, above all what
 * kernels to come will bring, answers ENOSYS, and programs fall back on what there was before.
 *
 * A name that this libc's headers don't know is left out, unless its number is below: from 424 on they are the same on
 * every architecture. */
#pragma once

#include <sys/syscall.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#define SYS_fspick 433
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack 453
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif
#ifndef SYS_lsm_get_self_attr
#define SYS_lsm_get_self_attr 459
#define SYS_lsm_list_modules 461
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

/* clang-format off */

/* What an ordinary program does, and can only do to itself and to what is in its sandbox. */
#define LIS_SYSCALLS_ALLOWED(X)                                                                                       \
    /* files */                                                                                                       \
    X(access) X(chdir) X(chmod) X(close) X(copy_file_range) X(creat) X(dup) X(dup2) X(dup3)            \
    X(faccessat) X(faccessat2) X(fadvise64) X(fallocate) X(fchdir) X(fchmod) X(fchmodat) X(fchmodat2) X(fcntl)        \
    X(fdatasync) X(flock) X(fstat) X(fstatfs) X(fsync) X(ftruncate) X(futimesat) X(getcwd) X(getdents) X(getdents64)  \
    X(link) X(linkat) X(lseek) X(lstat) X(mkdir) X(mkdirat) X(name_to_handle_at) X(newfstatat) X(open) X(openat)      \
    X(openat2) X(pread64) X(preadv) X(preadv2) X(pwrite64) X(pwritev) X(pwritev2) X(read) X(readahead) X(readlink)    \
    X(readlinkat) X(readv) X(rename) X(renameat) X(renameat2) X(rmdir) X(sendfile) X(splice) X(stat) X(statfs)        \
    X(statx) X(symlink) X(symlinkat) X(sync) X(sync_file_range) X(syncfs) X(tee) X(truncate) X(umask) X(unlink)       \
    X(unlinkat) X(utime) X(utimensat) X(utimes) X(write) X(writev) X(getxattr) X(lgetxattr) X(fgetxattr)              \
    X(getxattrat) X(listxattr) X(llistxattr) X(flistxattr) X(listxattrat) X(removexattr) X(lremovexattr)              \
    X(fremovexattr) X(removexattrat) X(statmount) X(listmount)                                                        \
    /* waiting */                                                                                                     \
    X(epoll_create) X(epoll_create1) X(epoll_ctl) X(epoll_ctl_old) X(epoll_pwait) X(epoll_pwait2) X(epoll_wait)       \
    X(epoll_wait_old) X(eventfd) X(eventfd2) X(inotify_add_watch) X(inotify_init) X(inotify_init1)                    \
    X(inotify_rm_watch) X(pipe) X(pipe2) X(poll) X(ppoll) X(pselect6) X(select) X(signalfd) X(signalfd4)              \
    X(timerfd_create) X(timerfd_gettime) X(timerfd_settime) X(io_cancel) X(io_destroy) X(io_getevents)                \
    X(io_pgetevents) X(io_setup) X(io_submit)                                                                         \
    /* memory */                                                                                                      \
    X(brk) X(get_mempolicy) X(madvise) X(map_shadow_stack) X(mbind) X(membarrier) X(mincore)          \
    X(mlock2) X(mlockall) X(mprotect) X(mremap) X(mseal) X(msync) X(munlock) X(munlockall) X(munmap)          \
    X(pkey_alloc) X(pkey_free) X(pkey_mprotect) X(remap_file_pages) X(set_mempolicy) X(shmat) X(shmctl) X(shmdt)      \
    X(msgctl) X(msgget) X(msgrcv) X(msgsnd) X(semctl) X(semget) X(semop) X(mq_getsetattr) X(mq_notify)      \
    X(mq_open) X(mq_timedreceive) X(mq_timedsend) X(mq_unlink)                                                        \
    /* processes and signals; ptrace and its like end at the sandbox's own processes, and PID 1 is not dumpable */    \
    X(alarm) X(arch_prctl) X(capget) X(execve) X(execveat) X(exit) X(exit_group) X(fork) X(vfork) X(futex)            \
    X(futex_requeue) X(futex_wait) X(futex_waitv) X(futex_wake) X(get_robust_list) X(get_thread_area) X(getcpu)       \
    X(getegid) X(geteuid) X(getgid) X(getgroups) X(getitimer) X(getpgid) X(getpgrp) X(getpid) X(getppid)              \
    X(getpriority) X(getrandom) X(getresgid) X(getresuid) X(getrlimit) X(getrusage) X(getsid) X(gettid) X(getuid)     \
    X(ioprio_get) X(kill) X(landlock_add_rule) X(landlock_create_ruleset) X(landlock_restrict_self)                   \
    X(lsm_get_self_attr) X(lsm_list_modules) X(pause) X(pidfd_open) X(prctl)                     \
    X(process_mrelease) X(process_vm_readv) X(process_vm_writev) X(ptrace) X(restart_syscall) X(rseq)                 \
    X(rt_sigaction) X(rt_sigpending) X(rt_sigprocmask) X(rt_sigreturn) X(rt_sigsuspend) X(rt_sigtimedwait)            \
    X(sched_get_priority_max) X(sched_get_priority_min) X(sched_getaffinity) X(sched_getattr) X(sched_getparam)       \
    X(sched_getscheduler) X(sched_rr_get_interval) X(sched_yield) X(seccomp) X(set_robust_list) X(set_thread_area)    \
    X(set_tid_address) X(setitimer) X(setpgid) X(setrlimit) X(setsid) X(sigaltstack) X(tgkill) X(tkill) X(times)      \
    X(uretprobe) X(wait4) X(waitid)                                                                                   \
    /* time and the machine */                                                                                        \
    X(clock_getres) X(clock_gettime) X(clock_nanosleep) X(gettimeofday) X(nanosleep) X(sysinfo) X(time)               \
    X(timer_create) X(timer_delete) X(timer_getoverrun) X(timer_gettime) X(timer_settime) X(uname)                    \
    /* sockets that exist */                                                                                          \
    X(accept) X(accept4) X(bind) X(connect) X(getpeername) X(getsockname) X(getsockopt) X(listen) X(recvfrom)         \
    X(recvmmsg) X(recvmsg) X(sendmmsg) X(sendmsg) X(sendto) X(setsockopt) X(shutdown)

/* EPERM, as the kernel itself would answer most of them: no capability is left. The rest are the kernel's widest doors
 * for a user without any (keyrings, bpf, perf events, userfaultfd), or reach into other processes. */
#define LIS_SYSCALLS_REFUSED(X)                                                                                       \
    X(acct) X(add_key) X(adjtimex) X(bpf) X(cachestat) X(chroot) X(clock_adjtime) X(clock_settime) X(delete_module)   \
    X(fanotify_init) X(fanotify_mark) X(finit_module) X(fsconfig) X(fsmount) X(fsopen) X(fspick) X(init_module)       \
    X(ioperm) X(iopl) X(kcmp) X(kexec_file_load) X(kexec_load) X(keyctl) X(migrate_pages) X(modify_ldt) X(mount)      \
    X(mount_setattr) X(move_mount) X(move_pages) X(open_by_handle_at) X(open_tree) X(open_tree_attr)                  \
    X(perf_event_open) X(pidfd_getfd) X(pivot_root) X(process_madvise) X(quotactl) X(quotactl_fd) X(reboot)           \
    X(request_key) X(setdomainname) X(sethostname) X(setns) X(settimeofday) X(swapoff) X(swapon) X(syslog)            \
    X(umount2) X(userfaultfd) X(vhangup) X(vmsplice)

/* Where root is emulated these succeed and do nothing, which is what packages need to be installed: there is one user.
 * Elsewhere the kernel answers. */
#define LIS_SYSCALLS_PRETENDED(X)                                                                                     \
    X(capset) X(chown) X(fchown) X(fchownat) X(lchown) X(setgid) X(setgroups) X(setregid) X(setresgid) X(setresuid)   \
    X(setreuid) X(setuid)

/* Where root is emulated: EOPNOTSUPP, as on a file system without them. systemd's and dpkg's scripts go on without an
 * ACL, and stop at "invalid argument". */
#define LIS_SYSCALLS_WITHOUT_XATTR(X)                                                                                 \
    X(setxattr) X(lsetxattr) X(fsetxattr) X(setxattrat)

/* The arguments decide: seccomp.c has one function for each. */
#define LIS_SYSCALLS_JUDGED(X)                                                                                        \
    X(clone) X(unshare) X(ioctl) X(socket) X(socketpair) X(personality) X(prlimit64) X(setpriority) X(ioprio_set)     \
    X(sched_setaffinity) X(sched_setattr) X(sched_setparam) X(sched_setscheduler) X(rt_sigqueueinfo)                  \
    X(rt_tgsigqueueinfo) X(pidfd_send_signal) X(mknod) X(mknodat) X(mmap) X(memfd_create) X(shmget) X(close_range) X(setfsuid) X(setfsgid)

/* clang-format on */
