/* Messages with descriptors over SEQPACKET sockets: one send, one message, no framing to get wrong. */
#include "inside.h"
#include "lis.h"

#include <string.h>
#include <sys/socket.h>

#include "util.h"

ssize_t lis_receive(int sock, int flags, void *buffer, size_t size, int fds[LIS_MAX_FDS], int *ret_nfds) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(LIS_MAX_FDS * sizeof(int))];
    } control;
    struct iovec part = {buffer, size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got = LIS_RETRY(recvmsg(sock, &message, MSG_CMSG_CLOEXEC | flags));
    if (got < 0)
        return -errno;
    int nfds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        nfds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), (size_t)nfds * sizeof(int));
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (int i = 0; i < nfds; i++)
            close(fds[i]);
        return -EMSGSIZE;
    }
    *ret_nfds = nfds;
    return got;
}

int lis_send(int sock, const void *data, size_t size, const int *fds, int nfds) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(LIS_MAX_FDS * sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (nfds > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
    }
    ssize_t sent = LIS_RETRY(sendmsg(sock, &message, MSG_NOSIGNAL));
    return sent < 0 ? -errno : 0;
}

uint32_t lis_message_kind(const void *message, ssize_t size) {
    const struct lis_header *header = message;
    if (size < (ssize_t)sizeof *header || header->magic != LIS_MAGIC)
        return 0;
    return header->kind == LIS_EXEC && size < (ssize_t)sizeof(struct lis_exec_message) ? 0 : header->kind;
}

const char *lis_message_id(const void *message, ssize_t size) {
    const struct lis_named_message *named = message;
    if (size < (ssize_t)sizeof *named)
        return NULL;
    size_t length = strnlen(named->id, LIS_ID_SIZE);
    bool is_id =
        length > 0 && length < LIS_ID_SIZE && strspn(named->id, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
    return is_id ? named->id : NULL;
}

int lis_send_fault(int sock, const struct lis_fault *fault) {
    struct lis_fault_message message = {.header = {LIS_MAGIC, LIS_FAULT}, .fault = *fault};
    return lis_send(sock, &message, sizeof message, NULL, 0);
}
