/* System calls that the oldest libc we build on has no wrapper for, under their own names with a sys_ prefix.
 * Numbers are the same on every architecture (asm-generic) from 424 on. */
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#endif
#ifndef SYS_fsconfig
#define SYS_fsconfig 431
#endif
#ifndef SYS_fsmount
#define SYS_fsmount 432
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
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define SYS_OPEN_TREE_CLONE 1u
#define SYS_OPEN_TREE_CLOEXEC O_CLOEXEC
#define SYS_AT_RECURSIVE 0x8000u
#define SYS_MOVE_MOUNT_F_EMPTY_PATH 0x04u
#define SYS_MOVE_MOUNT_T_EMPTY_PATH 0x40u
#define SYS_FSOPEN_CLOEXEC 1u
#define SYS_FSMOUNT_CLOEXEC 1u
#define SYS_FSCONFIG_SET_FLAG 0u
#define SYS_FSCONFIG_SET_STRING 1u
#define SYS_FSCONFIG_CMD_CREATE 6u
#define SYS_MOUNT_ATTR_RDONLY 0x1u
#define SYS_MOUNT_ATTR_NOSUID 0x2u
#define SYS_MOUNT_ATTR_NODEV 0x4u
#define SYS_MOUNT_ATTR_NOEXEC 0x8u
#define SYS_RESOLVE_NO_MAGICLINKS 0x02u
#define SYS_RESOLVE_NO_SYMLINKS 0x04u
#define SYS_RESOLVE_BENEATH 0x08u
#define SYS_RESOLVE_IN_ROOT 0x10u
#define SYS_CLOSE_RANGE_CLOEXEC 4u

struct sys_open_how {
    uint64_t flags, mode, resolve;
};
struct sys_mount_attr {
    uint64_t attr_set, attr_clr, propagation, userns_fd;
};

/* openat2(2), since 5.6 */
static inline int sys_openat2(int dir, const char *path, int flags, unsigned mode, uint64_t resolve) {
    struct sys_open_how how = {.flags = (uint64_t)flags, .mode = mode, .resolve = resolve};
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}
/* open_tree(2), since 5.2 */
static inline int sys_open_tree(int dir, const char *path, unsigned flags) {
    return (int)syscall(SYS_open_tree, dir, path, flags);
}
/* move_mount(2), since 5.2 */
static inline int sys_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags) {
    return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}
/* fsopen(2), fsconfig(2), fsmount(2), since 5.2 */
static inline int sys_fsopen(const char *type, unsigned flags) {
    return (int)syscall(SYS_fsopen, type, flags);
}
static inline int sys_fsconfig(int fs, unsigned command, const char *key, const char *value, int aux) {
    return (int)syscall(SYS_fsconfig, fs, command, key, value, aux);
}
static inline int sys_fsmount(int fs, unsigned flags, unsigned attributes) {
    return (int)syscall(SYS_fsmount, fs, flags, attributes);
}
/* mount_setattr(2), since 5.12 */
static inline int sys_mount_setattr(int dir, const char *path, unsigned flags, struct sys_mount_attr *attr) {
    return (int)syscall(SYS_mount_setattr, dir, path, flags, attr, sizeof *attr);
}
/* pivot_root(2) */
static inline int sys_pivot_root(const char *new_root, const char *put_old) {
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}
/* clone3(2) */
struct sys_clone_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
#define SYS_CLONE_INTO_CGROUP 0x200000000u
/* As fork, into new namespaces and, unless it is below 0, into a control group (version 2; since 5.7). clone where that
 * will do: Docker's default filter answers ENOSYS to clone3. */
static inline pid_t sys_fork_into(unsigned long namespaces, int cgroup, int exit_signal) {
    if (cgroup < 0)
        return (pid_t)syscall(SYS_clone, namespaces | (unsigned long)exit_signal, NULL, NULL, NULL, 0);
    struct sys_clone_args args = {
        .flags = namespaces | SYS_CLONE_INTO_CGROUP, .exit_signal = (uint64_t)exit_signal, .cgroup = (uint64_t)cgroup};
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}
/* pidfd_open(2), since 5.3 */
static inline int sys_pidfd_open(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}
/* close_range(2), since 5.9 */
static inline int sys_close_range(unsigned first, unsigned last, unsigned flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}
