/* The control protocol as PID 1 and the spawner receive it: over a real socket, with real descriptors.
 *
 * The input is a row of records:  u8 descriptors, u8 which of them are memory files, u16 size, u16 body, message, body
 * EXEC goes all the way into lis_command_start, which is linked with a fork() that never forks: nothing is run. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "inside.h"

#define MAX_MESSAGE (128 * 1024)
#define PATIENCE_MS 5000
#define MOST_FDS (LIS_MAX_FDS + 2) /* more than a message may carry */
#define MOST_RECORDS 16
#define FAKE_PID 4194304 /* above the kernel's largest pid_max: no process can have it */

pid_t __wrap_fork(void);
static bool forks_fail;

/* In place of fork (linked with -Wl,--wrap=fork). */
pid_t __wrap_fork(void) {
    if (!forks_fail)
        return FAKE_PID;
    errno = EAGAIN;
    return -1;
}

struct sent {
    int fds[MOST_FDS], peers[MOST_FDS]; /* what travels; our end of it where it is a socket, else -1 */
    int count;
};

static void make_fds(struct sent *sent, int count, unsigned memory, const uint8_t *body, size_t body_size) {
    sent->count = count;
    for (int i = 0; i < count; i++) {
        if (memory & 1u << i) {
            sent->peers[i] = -1;
            sent->fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
            require(sent->fds[i] >= 0 && write(sent->fds[i], body, body_size) == (ssize_t)body_size);
        } else {
            int pair[2];
            require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
            sent->fds[i] = pair[0];
            sent->peers[i] = pair[1];
        }
    }
}

/* Not lis_send, which sends no more than a message may carry. */
static void send_message(int sock, const uint8_t *message, size_t size, const struct sent *sent) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)message, size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (sent->count > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE((size_t)sent->count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN((size_t)sent->count * sizeof(int))};
        memcpy(CMSG_DATA(c), sent->fds, (size_t)sent->count * sizeof(int));
    }
    require(sendmsg(sock, &header, MSG_NOSIGNAL) == (ssize_t)size);
    for (int i = 0; i < sent->count; i++)
        close(sent->fds[i]);
}

static void check_split(const struct lis_exec_message *message, size_t size) {
    size_t text_size = size - sizeof *message;
    char *text = exact_copy(message + 1, text_size);
    struct lis_exec_strings strings = {0};
    int r = lis_exec_split(text, text_size, message->argc, message->envc, &strings);
    if (r == 0) {
        const char *next = text; /* each string begins where the one before it ended: none is lost, none is shared */
        require(strings.cwd == next);
        next += strlen(next) + 1;
        for (uint32_t i = 0; i < message->argc; next += strlen(next) + 1)
            require(strings.argv[i++] == next);
        for (uint32_t i = 0; i < message->envc; next += strlen(next) + 1)
            require(strings.envp[i++] == next);
        require(next <= text + text_size);
        require(message->argc > 0 && !strings.argv[message->argc] && !strings.envp[message->envc]);
        free(strings.argv);
    } else {
        require((r == -EPROTO || r == -ENOMEM) && !strings.argv);
    }
    free(text);
}

static int most_fds(uint32_t flags) {
    int most = 1;
    for (uint32_t flag = 1; flag; flag <<= 1)
        most += (flags & flag & (LIS_EXEC_BODY | LIS_EXEC_STDIN | LIS_EXEC_STDOUT | LIS_EXEC_STDERR)) != 0;
    return most;
}

static void check_exec(const struct lis_exec_message *message, size_t size, int fds[LIS_MAX_FDS], int nfds) {
    check_split(message, size);
    struct lis_tag_base base = {0};
    const struct lis_user user = {.is_real = false};
    struct lis_command *command = NULL;
    forks_fail = message->rows_columns & 1;
    int *own = exact_copy(fds, (size_t)nfds * sizeof *fds);
    int r = lis_command_start(&base, &user, 7, message, size, own, nfds, &command);
    free(own);
    if (r < 0) {
        require(!command);
        return;
    }
    require(r == 0 && command->pid == FAKE_PID && command->tag == 7 && command->watch.kind == LIS_WATCH_COMMAND);
    require(nfds <= most_fds(message->flags)); /* one that nothing was said about is a mistake somewhere */
    require(message->timeout_ns ? command->deadline > command->started : command->deadline == 0);
    require(fcntl(command->watch.fd, F_GETFD) == FD_CLOEXEC);
    close(command->watch.fd);
    free(command);
}

/* Whoever asked hears nothing, or a reason; then the socket is closed. */
static void check_answers(const struct sent *sent) {
    for (int i = 0; i < sent->count; i++) {
        if (sent->peers[i] < 0)
            continue;
        struct lis_exit_message answer;
        int fds[LIS_MAX_FDS], nfds = 0;
        ssize_t got = lis_receive(sent->peers[i], MSG_DONTWAIT, &answer, sizeof answer, fds, &nfds);
        if (got > 0 && lis_message_kind(&answer, got) == LIS_TERMINAL) {
            require(nfds == 1);
            close(fds[0]);
            got = lis_receive(sent->peers[i], MSG_DONTWAIT, &answer, sizeof answer, fds, &nfds);
        }
        if (got > 0) {
            require(got == sizeof answer && lis_message_kind(&answer, got) == LIS_NOT_STARTED);
            require(answer.err > 0 && answer.at == LIS_AT_SETUP);
            got = lis_receive(sent->peers[i], MSG_DONTWAIT, &answer, sizeof answer, fds, &nfds);
        }
        /* The kernel may let go of a descriptor that was in a message a moment after us (seen twice in ten minutes beside a
         * busy test suite; the same input never did it again). */
        struct pollfd end = {.fd = sent->peers[i], .events = POLLIN};
        if (got == -EAGAIN && poll(&end, 1, PATIENCE_MS) > 0)
            got = lis_receive(sent->peers[i], MSG_DONTWAIT, &answer, sizeof answer, fds, &nfds);
        require(got == 0 || got == -ECONNRESET); /* and not EAGAIN: nobody holds the other end any more */
        close(sent->peers[i]);
    }
}

static void take(const char *message, ssize_t size, int fds[LIS_MAX_FDS], int nfds) {
    uint32_t kind = lis_message_kind(message, size);
    if (kind == LIS_EXEC) {
        check_exec((const struct lis_exec_message *)message, (size_t)size, fds, nfds);
        return;
    }
    const char *id =
        kind == LIS_CREATE || kind == LIS_KILL || kind == LIS_DISCARD ? lis_message_id(message, size) : NULL;
    if (id) /* it becomes a directory's name */
        require(strlen(id) > 0 && strlen(id) < LIS_ID_SIZE && !strpbrk(id, "/.\n "));
    size_t head = sizeof(struct lis_create_message);
    if (id && kind == LIS_CREATE && (size_t)size >= head) {
        void *plan = exact_copy(message + head, (size_t)size - head);
        check_plan_decoder(plan, (size_t)size - head);
        free(plan);
    }
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
}

static void one_record(struct input *input, const int pair[2]) {
    static char buffer[MAX_MESSAGE];
    int count = (int)(input_u8(input) % (MOST_FDS + 1));
    unsigned memory = input_u8(input), wanted = input_u16(input), wanted_body = input_u16(input);
    size_t size, body_size;
    const uint8_t *message = input_bytes(input, wanted, &size), *body = input_bytes(input, wanted_body, &body_size);
    struct sent sent;
    make_fds(&sent, count, memory, body, body_size);
    send_message(pair[0], message, size, &sent);
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t got = lis_receive(pair[1], MSG_DONTWAIT, buffer, sizeof buffer, fds, &nfds);
    if (count > LIS_MAX_FDS)
        require(got == -EMSGSIZE && nfds == 0);
    else
        require(got == (ssize_t)size && nfds == count && memcmp(buffer, message, size) == 0);
    char *copy = exact_copy(buffer, got > 0 ? (size_t)got : 0);
    take(copy, got, fds, nfds);
    free(copy);
    check_answers(&sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    int before = free_number(), pair[2];
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    for (int i = 0; i < MOST_RECORDS && input.left > 0; i++)
        one_record(&input, pair);
    close(pair[0]);
    close(pair[1]);
    require(free_number() == before);
    return 0;
}
