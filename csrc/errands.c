/* What PID 1 is asked for beside commands, none of which it keeps anything of but a descriptor that it watches. */
#define _GNU_SOURCE
#include "inside.h"
#include "lis.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "sys.h"
#include "util.h"

/* A server that a command left behind goes on logging to its pipe. With no reader the next line would kill it, and
 * with one that sleeps the 65th kilobyte would stop it. */
void lis_drain_begin(int epoll, const int fds[LIS_MAX_FDS], int nfds) {
    for (int i = 0; i < nfds; i++) {
        struct lis_watch *drain = malloc(sizeof *drain);
        if (drain)
            *drain = (struct lis_watch){LIS_WATCH_DRAIN, fds[i]};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = drain};
        if (!drain || fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0) {
            close(fds[i]);
            free(drain);
        }
    }
}

void lis_drain_continue(int epoll, struct lis_watch *drain, char *buffer, size_t size) {
    /* once: epoll comes back for more, and others get a turn */
    ssize_t got = read(drain->fd, buffer, size);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    epoll_ctl(epoll, EPOLL_CTL_DEL, drain->fd, NULL);
    close(drain->fd);
    free(drain);
}

/* Not dumpable, this process hides its figures from its own user, so it hands them out itself. */
void lis_memory_send(const int fds[LIS_MAX_FDS], int nfds) {
    cleanup_fd int rollup = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    struct lis_header answer = {LIS_MAGIC, LIS_MEMORY};
    for (int i = 0; i < nfds; i++) {
        lis_send(fds[i], &answer, sizeof answer, &rollup, rollup >= 0);
        close(fds[i]);
    }
}

void lis_frozen_send(int number, const int fds[LIS_MAX_FDS], int nfds) {
    struct lis_freeze_message answer = {{LIS_MAGIC, LIS_FROZEN}, number};
    for (int i = 0; i < nfds; i++) {
        lis_send(fds[i], &answer, sizeof answer, NULL, 0);
        close(fds[i]);
    }
}

void lis_file_server_start(const struct lis_user *user, int fds[LIS_MAX_FDS], int nfds) {
    pid_t pid = nfds == 1 ? fork() : -1;
    if (pid == 0) {
        if (lis_become(user) < 0) /* what is uploaded should be its own, and what it may not read is not read for it */
            _exit(1);
        dup2(fds[0], LIS_CONTROL); /* the control socket's number: this process must not have that one */
        sys_close_range(LIS_CONTROL + 1, ~0u, 0);
        lis_files_serve(LIS_CONTROL);
    }
    for (int i = 0; i < nfds; i++)
        close(fds[i]); /* when fork failed, the closed socket tells */
}
