/* The one thing that a filter of system calls can't see: which socket a name that begins with NUL leads to. Such names are of the
 * network namespace, so where a sandbox shares the host's, they would lead to the sockets of the host. */
#define _GNU_SOURCE
#include "lis.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif

#define SCOPE_ABSTRACT_UNIX_SOCKET 1u

/* struct landlock_ruleset_attr since ABI 6 (Linux 6.12), which older headers lack */
struct ruleset {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

int lis_stay_among_own_sockets(void) {
    const struct ruleset ruleset = {.scoped = SCOPE_ABSTRACT_UNIX_SOCKET};
    cleanup_fd int fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0);
    return fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}
