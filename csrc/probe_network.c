/* Probes of what networks with a way out would need; see docs: no such network is there yet. */
#define _GNU_SOURCE
#include "probe.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "util.h"

#define NFT_GETGEN 16

struct request {
    struct nlmsghdr header;
    char body[128];
};

static void append(struct request *request, unsigned short type, const void *data, size_t size) {
    struct rtattr *attr = (struct rtattr *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));
    attr->rta_type = type;
    attr->rta_len = (unsigned short)RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(attr), data, size);
    request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + (unsigned)RTA_ALIGN(attr->rta_len);
}

/* Sends one request and returns its answer: 0, or -errno. */
static int ask(int protocol, const struct request *request) {
    cleanup_fd int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    char buffer[4096];
    if (sock < 0 || send(sock, request, request->header.nlmsg_len, 0) < 0)
        return -errno;
    ssize_t size = LIS_RETRY(recv(sock, buffer, sizeof buffer, 0));
    struct nlmsghdr *answer = (struct nlmsghdr *)buffer;
    if (size < (ssize_t)sizeof *answer)
        return size < 0 ? -errno : -EPROTO;
    return answer->nlmsg_type == NLMSG_ERROR ? ((struct nlmsgerr *)NLMSG_DATA(answer))->error : 0;
}

static int enter_network(struct lis_outcome *out) {
    if (lis_probe_enter(0, out) < 0)
        return -1;
    return unshare(CLONE_NEWNET) < 0 ? lis_untried(out, errno, "needs a network namespace") : 0;
}

static int veth(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (enter_network(out) < 0)
        return -1;
    struct request request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                                         .nlmsg_type = RTM_NEWLINK,
                                         .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK}};
    unsigned start = NLMSG_ALIGN(request.header.nlmsg_len);
    append(&request, IFLA_LINKINFO, NULL, 0);
    append(&request, IFLA_INFO_KIND, "veth", 4);
    ((struct rtattr *)((char *)&request + start))->rta_len = (unsigned short)(request.header.nlmsg_len - start);
    int r = ask(NETLINK_ROUTE, &request);
    return r < 0 ? lis_fails(out, -r, "make a pair of interfaces")
                 : lis_works(out, "a pair of interfaces could be made");
}

static int nft(const struct lis_probe *probe, const char *place, struct lis_outcome *out) {
    (void)probe, (void)place;
    if (enter_network(out) < 0)
        return -1;
    struct request request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg)),
                                         .nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_GETGEN,
                                         .nlmsg_flags = NLM_F_REQUEST}};
    int r = ask(NETLINK_NETFILTER, &request);
    return r < 0 ? lis_fails(out, -r, "reach nf_tables") : lis_works(out, "nf_tables answers");
}

const struct lis_probe lis_network_probes[] = {
    {.name = "veth", .run = veth},
    {.name = "nft", .run = nft},
    {.name = NULL},
};
