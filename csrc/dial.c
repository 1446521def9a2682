/* The way into a sandbox: PID 1 connects to a port of its own loopback, because the host has asked, and hands the connection out
 * as it is. The reverse of gateway.c: the host relays the bytes, and nothing inside can begin with it. */
#define _GNU_SOURCE
#include "inside.h"
#include "lis.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util.h"

static void answer(int asker, int err, int sock) {
    struct lis_dial_message message = {.header = {LIS_MAGIC, LIS_DIALLED}, .err = err};
    lis_send(asker, &message, sizeof message, &sock, err == 0); /* its first and last: there is room. Or it has left */
}

/* With nobody there, a connection to a port that the kernel gives to clients may get that same port, and is then its own other
 * end. */
static bool is_to_itself(int sock) {
    struct sockaddr_in here = {0}, there = {0};
    socklen_t size = sizeof here, other = sizeof there;
    return getsockname(sock, (struct sockaddr *)&here, &size) == 0 &&
           getpeername(sock, (struct sockaddr *)&there, &other) == 0 && here.sin_port == there.sin_port &&
           here.sin_addr.s_addr == there.sin_addr.s_addr;
}

/* Answers if there is something to say. Whether it is over, then or because the asker has left. */
static bool is_decided(int asker, int sock) {
    struct pollfd ends[] = {{.fd = asker, .events = POLLRDHUP}, {.fd = sock, .events = POLLOUT}};
    if (poll(ends, LIS_COUNT(ends), 0) <= 0)
        return false;
    if (ends[0].revents)
        return true;
    int err = 0;
    socklen_t size = sizeof err;
    if (getsockopt(sock, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
        err = errno;
    else if (err == 0 && is_to_itself(sock))
        err = ECONNREFUSED;
    answer(asker, err, sock);
    return true;
}

/* A listener whose queue is full lets connections wait. So they are watched, and so is whether anybody still wants them. */
static int keep(struct lis_dialler *dialler, int epoll, int *asker, int *sock) {
    struct lis_dial *dial = dialler->at, *end = dial + LIS_COUNT(dialler->at);
    while (dial < end && dial->watch.fd)
        dial++;
    if (dial == end)
        return -EAGAIN;
    struct epoll_event left = {.events = EPOLLRDHUP, .data.ptr = dial}, done = {.events = EPOLLOUT, .data.ptr = dial};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, *asker, &left) < 0)
        return -errno;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, *sock, &done) < 0) {
        int err = errno;
        epoll_ctl(epoll, EPOLL_CTL_DEL, *asker, NULL);
        return -err;
    }
    *dial = (struct lis_dial){.watch = {LIS_WATCH_DIAL, lis_take_fd(asker)}, .sock = lis_take_fd(sock)};
    return 0;
}

void lis_dial_begin(struct lis_dialler *dialler, int epoll, const struct lis_dial_message *message, size_t size,
                    int asked) {
    cleanup_fd int asker = asked;
    if (size < sizeof *message)
        return;
    if (message->port == 0 || message->port > UINT16_MAX)
        return answer(asker, EINVAL, -1);
    cleanup_fd int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)message->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (sock < 0 || (connect(sock, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS))
        return answer(asker, errno, -1);
    if (is_decided(asker, sock)) /* on the loopback as good as always */
        return;
    int r = keep(dialler, epoll, &asker, &sock);
    if (r < 0)
        answer(asker, -r, -1);
}

void lis_dial_continue(int epoll, struct lis_dial *dial) {
    if (!dial->watch.fd ||
        !is_decided(dial->watch.fd, dial->sock)) /* its other descriptor's event was before this one */
        return;
    /* closing would not be enough: the host has the connection now, and epoll would go on with it */
    epoll_ctl(epoll, EPOLL_CTL_DEL, dial->watch.fd, NULL);
    epoll_ctl(epoll, EPOLL_CTL_DEL, dial->sock, NULL);
    close(dial->watch.fd);
    close(dial->sock);
    *dial = (struct lis_dial){0};
}
