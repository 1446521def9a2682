/* The way out of a sandbox that has a proxy: PID 1 listens on its loopback, and hands each connection to the gateway, a part of
 * the Python process on the host, as it is. No byte of it passes through here, and no program in the sandbox has anything of
 * the host's but the other end of what it has connected itself. */
#define _GNU_SOURCE
#include "inside.h"
#include "lis.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util.h"

#define BACKLOG 1024
#define MOST_AT_ONCE 64

static const uint16_t ports[LIS_GATEWAY_PORTS] = {LIS_PORT_HTTP, LIS_PORT_SOCKS};

/* What a client sees when there is nobody to hand it to. */
static const char nobody[] =
    "HTTP/1.1 503 lisrt: the proxy of this sandbox has ended\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

static int listen_on(uint16_t port) {
    cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int yes = 1;
    /* what earlier connections have left in TIME_WAIT keeps nobody from listening again */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return lis_take_fd(&fd);
}

int lis_gateway_open(struct lis_gateway *gateway, int epoll, int sock) {
    if (gateway->sock > 0) { /* another one takes over; the listeners stay */
        lis_close(gateway->sock);
        gateway->sock = sock;
        return 0;
    }
    int r = 0;
    for (size_t i = 0; r == 0 && i < LIS_COUNT(ports); i++) {
        int fd = listen_on(ports[i]);
        gateway->listeners[i] = (struct lis_watch){LIS_WATCH_LISTENER, fd};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &gateway->listeners[i]};
        if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
            r = fd < 0 ? fd : -errno;
    }
    if (r == 0) { /* nothing is said: it would wake the gateway at the moment at which the sandbox gets ready */
        gateway->sock = sock;
        return 0;
    }
    for (size_t i = 0; i < LIS_COUNT(ports); i++)
        lis_close(lis_take_fd(&gateway->listeners[i].fd));
    lis_close(sock);
    return r;
}

void lis_gateway_accept(struct lis_gateway *gateway, const struct lis_watch *listener) {
    const uint16_t port = ports[listener - gateway->listeners];
    for (int i = 0; i < MOST_AT_ONCE; i++) { /* then others get a turn */
        cleanup_fd int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        struct lis_accepted_message message = {.header = {LIS_MAGIC, LIS_ACCEPTED}, .port = port};
        /* full or closed: whoever has connected sees an end, and nothing gets out */
        if (lis_send(gateway->sock, &message, sizeof message, &fd, 1) < 0 && port == LIS_PORT_HTTP)
            send(fd, nobody, sizeof nobody - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}
