/* Connections to this machine's loopback, as PID 1 makes them to its own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inside.h"
#include "lis.h"
#include "tap.h"
#include "util.h"

struct listening {
    int fd;
    uint16_t port;
};

static struct listening listen_with(int backlog) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        exit(99);
    return (struct listening){fd, ntohs(address.sin_port)};
}

/* Our end of the socket on which the answer comes. */
static int begin(struct lis_dialler *dialler, int epoll, uint32_t port, size_t size) {
    struct lis_dial_message message = {.header = {LIS_MAGIC, LIS_DIAL}, .port = port};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        exit(99);
    lis_dial_begin(dialler, epoll, &message, size, pair[1]);
    return pair[0];
}

/* The error that was answered, or -1 for the end without an answer; -EAGAIN: nothing yet. */
static int hear(int sock, int *ret_connection) {
    struct lis_dial_message message;
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t got = lis_receive(sock, MSG_DONTWAIT, &message, sizeof message, fds, &nfds);
    *ret_connection = nfds == 1 ? fds[0] : -1;
    if (got <= 0)
        return got == -EAGAIN ? -EAGAIN : -1;
    bool is_whole = got == sizeof message && lis_message_kind(&message, got) == LIS_DIALLED;
    return is_whole && (message.err == 0) == (nfds == 1) ? message.err : -2;
}

static int asked(struct lis_dialler *dialler, int epoll, uint32_t port, size_t size) {
    int connection, sock = begin(dialler, epoll, port, size), answer = hear(sock, &connection);
    lis_close(connection);
    close(sock);
    return answer;
}

static int used(const struct lis_dialler *dialler) {
    int count = 0;
    for (int i = 0; i < LIS_MOST_DIALS; i++)
        count += dialler->at[i].watch.fd != 0;
    return count;
}

static void run_events(int epoll, int timeout) {
    struct epoll_event events[8];
    int n = epoll_wait(epoll, events, LIS_COUNT(events), timeout);
    for (int i = 0; i < n; i++)
        lis_dial_continue(epoll, events[i].data.ptr);
}

static void test_full_queue(struct lis_dialler *dialler, int epoll) {
    struct listening full = listen_with(0);
    int waiting[LIS_MOST_DIALS + 8], count = 0, unused;
    while (count < LIS_MOST_DIALS + 8 && used(dialler) < LIS_MOST_DIALS) {
        waiting[count++] = begin(dialler, epoll, full.port, sizeof(struct lis_dial_message));
        run_events(epoll, 0);
    }
    check(used(dialler) == LIS_MOST_DIALS, "with a queue that is full connections wait");
    check(hear(waiting[count - 1], &unused) == -EAGAIN, "and nothing is said yet");
    check(asked(dialler, epoll, full.port, sizeof(struct lis_dial_message)) == EAGAIN, "so many, and no more");
    struct listening other = listen_with(8);
    check(asked(dialler, epoll, other.port, sizeof(struct lis_dial_message)) == 0, "others need not wait");
    close(other.fd);
    close(waiting[--count]);
    run_events(epoll, 0);
    check(used(dialler) == LIS_MOST_DIALS - 1, "one that nobody wants any more is given up");
    int answers = 0;
    for (int connection = accept(full.fd, NULL, NULL), i = 0; i < 100 && connection >= 0 && answers == 0; i++) {
        run_events(epoll, 100); /* the kernel tries again after a second */
        answers = LIS_MOST_DIALS - 1 - used(dialler);
    }
    check(answers > 0, "one that is taken in at last is answered");
    close(full.fd);
    for (int i = 0; i < count; i++)
        close(waiting[i]);
    for (int i = 0; i < LIS_MOST_DIALS && used(dialler); i++)
        run_events(epoll, 0);
    check(used(dialler) == 0 && epoll_wait(epoll, &(struct epoll_event){0}, 1, 0) == 0, "nothing is left");
}

/* The kernel goes through the ports that it gives to clients, the even ones or the odd ones first: in so many tries each one's
 * turn comes. */
static void test_itself(struct lis_dialler *dialler, int epoll) {
    unsigned low = 0, high = 0;
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (!range || fscanf(range, "%u %u", &low, &high) != 2)
        exit(99);
    fclose(range);
    unsigned refused = 0, port = low + (high - low) / 4 * 2;
    for (unsigned i = 0; i < high - low && refused == i; i++)
        refused += asked(dialler, epoll, port, sizeof(struct lis_dial_message)) == ECONNREFUSED;
    check(refused == high - low, "nothing is connected with itself");
}

int main(void) {
    struct lis_dialler dialler = {0};
    const size_t whole = sizeof(struct lis_dial_message);
    int epoll = epoll_create1(EPOLL_CLOEXEC), connection;
    struct listening server = listen_with(8);
    int sock = begin(&dialler, epoll, server.port, whole);
    check(hear(sock, &connection) == 0 && used(&dialler) == 0, "whoever listens is reached, at once");
    int accepted = accept(server.fd, NULL, NULL);
    char byte = 0;
    check(write(connection, "x", 1) == 1 && read(accepted, &byte, 1) == 1 && byte == 'x',
          "by the descriptor that came");
    check(hear(sock, &connection) == -1, "that was all");
    close(sock);
    close(server.fd);
    check(asked(&dialler, epoll, server.port, whole) == ECONNREFUSED, "nobody listens");
    check(asked(&dialler, epoll, 0, whole) == EINVAL && asked(&dialler, epoll, 65536 + 80, whole) == EINVAL,
          "what is no port is none");
    check(asked(&dialler, epoll, 80, whole - 1) == -1, "a message that is too short has no answer");
    test_itself(&dialler, epoll);
    test_full_queue(&dialler, epoll);
    close(epoll);
    return tap_done();
}
