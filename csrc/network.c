/* Network namespaces that are made ahead, by a process of the spawner's. Making one took half a millisecond of the two that
 * making a sandbox took, and it waits for locks that the whole machine has in common. Where there is none ready, a sandbox
 * makes its own. */
#define _GNU_SOURCE
#include "outside.h"

#include <fcntl.h>
#include <linux/netlink.h>
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

static int make(void) {
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    int r = lis_loopback_up(), fd = r < 0 ? -EBADF : open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return r < 0 ? r : fd < 0 ? -errno : fd;
}

/* What is asked of the process that makes them. */
enum { ALONE = 0, WITH_LINKS = 'l', WITH_RULES = 'r' };

static const char *const udp_timeouts[] = {"/proc/sys/net/netfilter/nf_conntrack_udp_timeout",
                                           "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream"};

/* A namespace, with the means to set it up from anywhere: what a netlink socket may do is what its maker might, and whoever sends
 * by it may, and the owner of a user namespace may all in there. Returns how many descriptors there are, or -errno. */
static int make_all(char wanted, int fds[LIS_NETWORK_PARTS]) {
    int made = 0;
    for (int part = 0; part < (wanted == WITH_RULES ? 3 : wanted == WITH_LINKS ? 2 : 1); part++) {
        fds[part] = part == 0
                        ? make()
                        : socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, part == 1 ? NETLINK_ROUTE : NETLINK_NETFILTER);
        if (fds[part] < 0 && part < 2) { /* without the third the kernel has no nfnetlink */
            int r = part == 0 ? fds[0] : -errno;
            while (made > 0)
                close(fds[--made]);
            return r;
        }
        made += fds[part] >= 0;
    }
    /* for interfaces to come: nobody routes it, and each would take entries of a table that the whole machine has in common */
    if (made > 1)
        lis_write_file(AT_FDCWD, "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    /* or a sandbox would hear of six refusals at once, of one a second from then on, and wait in vain for the others */
    if (made > 2)
        lis_write_file(AT_FDCWD, "/proc/sys/net/ipv4/icmp_ratemask", "0");
    /* as long as slirp4netns keeps a descriptor for one: what is counted against a sandbox is what it takes */
    for (size_t i = 0; made > 2 && i < LIS_COUNT(udp_timeouts); i++)
        lis_write_file(AT_FDCWD, udp_timeouts[i], "240");
    return made;
}

static int hand_over(int sock, const int fds[LIS_NETWORK_PARTS], int nfds, struct lis_fault *fault) {
    struct lis_header made = {LIS_MAGIC, LIS_NETWORK};
    if (nfds < 0)
        return lis_fail(fault, LIS_STAGE_NETWORK_NAMESPACE, -nfds, NULL);
    int r = lis_send(sock, &made, sizeof made, fds, nfds);
    return r < 0 ? lis_fail(fault, LIS_STAGE_REQUEST, -r, "network") : 0;
}

/* One for each byte that comes; a message without one where the host allows no more. With the byte may come a socket: then that one
 * goes there. */
static void make_networks(int sock) __attribute__((noreturn));
static void make_networks(int sock) {
    char wanted;
    int fds[LIS_MAX_FDS], nfds, told = 0;
    while (nfds = 0, told >= 0 && lis_receive(sock, 0, &wanted, 1, fds, &nfds) == 1) {
        cleanup_fd int asker = nfds > 0 ? fds[0] : -EBADF;
        struct lis_fault fault;
        int parts[LIS_NETWORK_PARTS], made = make_all(wanted, parts);
        if (asker < 0)
            told = lis_send(sock, &wanted, 1, parts, made > 0 ? made : 0);
        else if (hand_over(asker, parts, made, &fault) < 0)
            lis_send_fault(asker, &fault);
        while (made > 0)
            close(parts[--made]);
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
        struct lis_spare_network spare = {nfds > 0 ? fds[0] : -EBADF, nfds > 1 ? fds[1] : -EBADF};
        if (spare.network >= 0 && networks->count < LIS_SPARE_NETWORKS)
            networks->spares[networks->count++] = spare;
        else
            for (int i = 0; i < nfds; i++)
                close(fds[i]);
    }
}

static struct lis_spare_network take(struct lis_networks *networks) {
    if (networks->pid > 0)
        receive(networks);
    else
        start(networks);
    struct lis_spare_network none = {-EBADF, -EBADF};
    struct lis_spare_network taken = networks->count > 0 ? networks->spares[--networks->count] : none;
    if (networks->count == 0)
        lis_network_refill(networks);
    return taken;
}

int lis_network_take(struct lis_networks *networks) {
    struct lis_spare_network taken = take(networks);
    lis_close(taken.links);
    return taken.network;
}

int lis_network_hand_over(struct lis_networks *networks, bool with_rules, int asker) {
    networks->keeps_links = true; /* one that asks will ask again */
    struct lis_spare_network spare = {-EBADF, -EBADF};
    if (!with_rules)
        spare = take(networks);
    cleanup_fd int network = spare.network, links = spare.links;
    if (links >= 0) {
        struct lis_header made = {LIS_MAGIC, LIS_NETWORK};
        const int fds[] = {network, links};
        return lis_send(asker, &made, sizeof made, fds, 2);
    }
    if (networks->pid == 0)
        start(networks);
    const char wanted = with_rules ? WITH_RULES : WITH_LINKS;
    return networks->pid == 0 ? -EAGAIN : lis_send(networks->sock, &wanted, 1, &asker, 1);
}

bool lis_network_wanted(const struct lis_networks *networks) {
    return networks->pid > 0 && networks->count + networks->asked < LIS_SPARE_NETWORKS;
}

void lis_network_refill(struct lis_networks *networks) {
    const char wanted = networks->keeps_links ? WITH_LINKS : ALONE;
    while (lis_network_wanted(networks) && send(networks->sock, &wanted, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        networks->asked++;
}

void lis_network_forget(struct lis_networks *networks) {
    networks->pid = 0;
    lis_close(lis_take_fd(&networks->sock));
}
