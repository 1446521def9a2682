/* What a process inherits by accident, undone; and what it may do, given up. */
#define _GNU_SOURCE
#include "lis.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sys.h"
#include "util.h"

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif
#ifndef PR_SET_THP_DISABLE
#define PR_SET_THP_DISABLE 41
#endif
#define KEYCTL_JOIN_SESSION_KEYRING 1
#define KEYCTL_REVOKE 3

/* Keyrings are in no namespace: without this a sandbox would hold the user's session keys. One empty keyring serves all
 * sandboxes, because a user may have 200 in all; it is revoked, so that they can't talk through it. A kernel built without
 * keyrings answers ENOSYS and has none to hide; so does, with EPERM, a container whose filter forbids the call. */
static int forget_keys(void) {
    long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    if (ring < 0)
        return errno == ENOSYS || errno == EPERM ? 0 : -errno;
    return syscall(SYS_keyctl, KEYCTL_REVOKE, (int)ring) < 0 ? -errno : 0;
}

int lis_forget_parent(void) {
    /* The system call, because libc's wrapper refuses its own two signals, and posix_spawn leaves those ignored. */
    const struct {
        void *handler;
        unsigned long rest[18];
    } by_default = {0};
    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, &by_default, NULL, 8); /* SIGKILL and SIGSTOP can't be anything else */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(0);
    umask(022);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0); /* some trainers' launchers switch huge pages off for all that they start */
    /* Not 0: a core_pattern that starts a program, as root and on the host, ignores every limit but 1 (core(5)). */
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) == 0)
        setrlimit(RLIMIT_CORE, &(struct rlimit){core.rlim_max > 0, core.rlim_max > 0});
    setsid(); /* fails only where we lead a session already */
    return forget_keys();
}

int lis_set_capabilities(uint64_t kept) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    for (size_t half = 0; half < LIS_COUNT(data); half++)
        data[half].effective = data[half].permitted = (uint32_t)(kept >> 32 * half);
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int lis_drop_privileges(uint64_t kept) {
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    for (int capability = 0; capability < 64; capability++) {
        if (kept & LIS_CAPABILITY(capability) || prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
            continue;
        /* refused where all are gone already (bwrap.c), those that this kernel does not know too */
        int is_held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (is_held < 0 && errno == EINVAL)
            break;
        if (is_held != 0)
            return -errno;
    }
    int r = lis_set_capabilities(kept);
    if (r < 0)
        return r;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

int lis_write_file(int dir, const char *path, const char *text) {
    cleanup_fd int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t written = LIS_RETRY(write(fd, text, strlen(text)));
    return written < 0 ? -errno : 0;
}
