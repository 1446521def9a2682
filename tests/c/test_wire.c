/* Messages and descriptors over a socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "inside.h"
#include "lis.h"
#include "tap.h"

static int open_count(void) {
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int main(void) {
    int pair[2], fds[LIS_MAX_FDS], nfds = -1;
    char buffer[64];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return 99;
    check(lis_receive(pair[1], MSG_DONTWAIT, buffer, sizeof buffer, fds, &nfds) == -EAGAIN, "nothing is there yet");

    check(lis_send(pair[0], "hello", 5, NULL, 0) == 0, "a message is sent");
    check(lis_receive(pair[1], 0, buffer, sizeof buffer, fds, &nfds) == 5 && nfds == 0, "and received whole");

    int before = open_count();
    check(lis_send(pair[0], "fds", 3, (int[]){0, 1, 2}, 3) == 0, "three descriptors are sent");
    check(lis_receive(pair[1], 0, buffer, sizeof buffer, fds, &nfds) == 3 && nfds == 3, "three are received");
    check(fcntl(fds[0], F_GETFD) == FD_CLOEXEC, "they are closed on exec from birth");
    for (int i = 0; i < nfds; i++)
        close(fds[i]);

    lis_send(pair[0], "too long for it", 15, (int[]){0}, 1);
    check(lis_receive(pair[1], 0, buffer, 4, fds, &nfds) == -EMSGSIZE, "a message that does not fit is an error");
    check(open_count() == before, "and its descriptors don't leak");

    struct lis_fault fault;
    check(lis_fail(&fault, LIS_STAGE_OVERLAY, ELOOP, "/a") == -ELOOP, "a fault's return value is its errno");
    lis_send_fault(pair[0], &fault);
    struct lis_fault_message message;
    lis_receive(pair[1], 0, &message, sizeof message, fds, &nfds);
    check(message.header.kind == LIS_FAULT && message.fault.stage == LIS_STAGE_OVERLAY && message.fault.err == ELOOP &&
              strcmp(message.fault.path, "/a") == 0,
          "a fault arrives as it was made");
    char longest[1000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    lis_fail(&fault, LIS_STAGE_MOUNT, EIO, longest);
    check(strlen(fault.path) == sizeof fault.path - 1, "a path that is too long is cut");
    check(strcmp(lis_stage_slug(LIS_STAGE_PIVOT), "pivot") == 0 && !lis_stage_slug(-1) &&
              !lis_stage_words(LIS_STAGE_COUNT),
          "stages have names, and others have none");

    struct lis_named_message named = {.header = {LIS_MAGIC, LIS_KILL}, .id = "b0-9"};
    struct lis_exec_message exec = {.header = {LIS_MAGIC, LIS_EXEC}};
    check(lis_message_kind(&named, sizeof named) == LIS_KILL, "a message has a kind");
    check(lis_message_kind(&named, sizeof(struct lis_header) - 1) == 0 && lis_message_kind(&named, -EMSGSIZE) == 0,
          "what is shorter than a header has none, nor has an error");
    check(lis_message_kind(&exec, sizeof exec) == LIS_EXEC && lis_message_kind(&exec, sizeof exec - 1) == 0,
          "an EXEC without all its numbers is none");
    named.header.magic++;
    check(lis_message_kind(&named, sizeof named) == 0, "a message of another version is none");
    check(lis_message_id(&named, sizeof named) == named.id && !lis_message_id(&named, sizeof named - 1),
          "a name is found in a whole message");
    static const char *const bad[] = {"", ".", "../x", "a/b", "A", "b "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(named.id, 0, sizeof named.id);
        memcpy(named.id, bad[i], strlen(bad[i]));
        check(!lis_message_id(&named, sizeof named), "\"%s\" names no sandbox", bad[i]);
    }
    memset(named.id, 'x', sizeof named.id);
    check(!lis_message_id(&named, sizeof named), "nor does a name without an end");

    close(pair[0]);
    check(lis_receive(pair[1], 0, buffer, sizeof buffer, fds, &nfds) == 0, "the end of the file is 0");
    check(lis_send(pair[1], "x", 1, NULL, 0) == -EPIPE, "sending to nobody is an error, not a signal");
    close(pair[1]);
    return tap_done();
}
