/* Network namespaces that are made ahead, by a process of the spawner's. Making one took half a millisecond of the two that
 * making a sandbox took, and it waits for locks that the whole machine has in common. Where there is none ready, a sandbox
 * makes its own. */
#define _GNU_SOURCE
#include "outside.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "sys.h"
#include "util.h"

int lis_loopback_up(void) {
    cleanup_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    return sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) < 0 ? -errno : 0;
}

/* One for each byte that comes; a message without one where the host allows no more. */
static void make_networks(int sock) __attribute__((noreturn));
static void make_networks(int sock) {
    char wanted;
    while (LIS_RETRY(recv(sock, &wanted, 1, 0)) == 1) {
        cleanup_fd int made = -EBADF;
        if (unshare(CLONE_NEWNET) == 0 && lis_loopback_up() == 0)
            made = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (lis_send(sock, &wanted, 1, &made, made >= 0) < 0)
            break;
    }
    _exit(0);
}

static void start(struct lis_networks *networks) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        /* with the owner's descriptors open it would keep what it serves alive */
        if (dup2(pair[1], 0) < 0)
            _exit(1);
        sys_close_range(1, ~0u, 0);
        prctl(PR_SET_NAME, "lisrt-network", 0, 0, 0);
        make_networks(0);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return;
    }
    networks->pid = pid;
    networks->sock = pair[0];
    networks->asked = 0;
}

static void receive(struct lis_networks *networks) {
    char answer;
    int fds[LIS_MAX_FDS], nfds = 0;
    while (networks->asked > 0 && lis_receive(networks->sock, MSG_DONTWAIT, &answer, 1, fds, &nfds) == 1) {
        networks->asked--;
        for (int i = 0; i < nfds; i++) {
            if (networks->count < LIS_SPARE_NETWORKS)
                networks->spares[networks->count++] = fds[i];
            else
                close(fds[i]);
        }
    }
}

int lis_network_take(struct lis_networks *networks) {
    if (networks->pid > 0)
        receive(networks);
    else
        start(networks);
    int taken = networks->count > 0 ? networks->spares[--networks->count] : -EBADF;
    if (networks->count == 0)
        lis_network_refill(networks);
    return taken;
}

bool lis_network_wanted(const struct lis_networks *networks) {
    return networks->pid > 0 && networks->count + networks->asked < LIS_SPARE_NETWORKS;
}

void lis_network_refill(struct lis_networks *networks) {
    while (lis_network_wanted(networks) && send(networks->sock, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        networks->asked++;
}

void lis_network_forget(struct lis_networks *networks) {
    networks->pid = 0;
    lis_close(lis_take_fd(&networks->sock));
}
