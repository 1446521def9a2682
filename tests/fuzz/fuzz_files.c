/* The file server, for real: requests over its socket, answers and descriptors from it, on a file system of its own.
 *
 * The input is a row of records:  u16 size, u16 padding, message.  The padding, of letters, makes long names cheap.
 *
 * It must not touch this machine's files. So the process enters a user and a mount namespace, where a tmpfs covers /mnt;
 * the server is a thread with a root of its own (CLONE_FS) there, while libFuzzer, in the main thread, still sees its
 * corpus. Of /proc the server gets /proc/self/fd alone, which it needs: /proc/self/root would lead out again. For the same
 * reason no directory of the outside is open while a request is served. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "inside.h"
#include "outside.h"

#define TOP "/mnt"
#define MOST_RECORDS 16
#define MOST_BYTES 10240 /* more than the server's buffer: it then says ENAMETOOLONG */

static int handover[2]; /* the numbers of sockets to serve */
static dev_t device;

static void *serve(void *unused) {
    (void)unused;
    require(unshare(CLONE_FS) == 0 && chroot(TOP) == 0 && chdir("/") == 0);
    require(lis_drop_privileges(0) == 0);
    umask(0);
    for (int sock; read(handover[0], &sock, sizeof sock) == (ssize_t)sizeof sock; close(sock))
        while (lis_files_serve_one(sock) >= 0)
            ;
    return NULL;
}

static void make_file_system(void) {
    uid_t uid = getuid();
    gid_t gid = getgid();
    require(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    require(lis_map_ids(proc, uid, gid, uid, gid) == 0);
    close(proc);
    require(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    require(mount("fuzz", TOP, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=755") == 0);
    require(mkdir(TOP "/proc", 0755) == 0 && mount("fuzz", TOP "/proc", "tmpfs", 0, "mode=755") == 0);
    require(mkdir(TOP "/proc/self", 0755) == 0 && mkdir(TOP "/proc/self/fd", 0755) == 0);
    require(mount("/proc/self/fd", TOP "/proc/self/fd", NULL, MS_BIND, NULL) == 0);
    require(mount(NULL, TOP "/proc", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
    struct stat st;
    require(stat(TOP, &st) == 0);
    device = st.st_dev;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    pthread_t server;
    make_file_system();
    require(pipe2(handover, O_CLOEXEC) == 0);
    require(pthread_create(&server, NULL, serve, NULL) == 0);
    require(lis_drop_privileges(0) == 0); /* so that modes mean something to this thread, too */
    require(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) ==
            0); /* new ids took that away; the leak sanitizer looks at us from outside */
    return 0;
}

static void remove_all(void) {
    DIR *top = opendir(TOP);
    require(top);
    for (struct dirent *entry; (entry = readdir(top));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "proc") == 0)
            continue;
        if (unlinkat(dirfd(top), name, 0) < 0)
            require(lis_remove_tree(dirfd(top), name) == 0);
    }
    closedir(top);
}

static void make_all(void) {
    int fd = open(TOP "/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    require(fd >= 0 && write(fd, "content", 7) == 7);
    close(fd);
    require(mkdir(TOP "/dir", 0755) == 0 && mkdir(TOP "/dir/sub", 0755) == 0 && mkdir(TOP "/shut", 0) == 0);
    require(symlink("/file", TOP "/link") == 0 && symlink("loop", TOP "/loop") == 0);
    require(symlink("../../../..", TOP "/dir/up") == 0 && symlink("/proc/self/fd/2", TOP "/magic") == 0);
    require(mkfifo(TOP "/fifo", 0644) == 0);
    fd = open(TOP "/readonly", O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    require(fd >= 0);
    close(fd);
}

/* A descriptor comes out only where one was asked for, of a regular file in here, for no more than was asked for. */
static void check_fd(int fd, uint32_t op) {
    struct stat st;
    require(op == LIS_OPEN_READ || op == LIS_OPEN_WRITE);
    require(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_dev == device);
    int flags = fcntl(fd, F_GETFL);
    require(flags >= 0 && (flags & O_ACCMODE) == (op == LIS_OPEN_READ ? O_RDONLY : O_WRONLY));
    require(op == LIS_OPEN_READ || st.st_size == 0);
    close(fd);
}

static void check_entry(const struct lis_file_reply *reply, size_t size) {
    const char *name = (const char *)(reply + 1), *end = (const char *)reply + size;
    require(name < end && end[-1] == 0 && name[0] != 0 && !strchr(name, '/'));
    const char *target = name + strlen(name) + 1;
    require(target < end && target + strlen(target) + 1 == end);
    require(S_ISLNK(reply->mode) ? target[0] != 0 : target[0] == 0);
}

/* Reads the answer to one request; false when the server hung up instead. */
static bool take_answer(int sock, uint32_t op) {
    _Alignas(struct lis_file_reply) static char buffer[16384];
    for (bool is_first = true;; is_first = false) {
        int fds[LIS_MAX_FDS], nfds = 0;
        ssize_t size = lis_receive(sock, 0, buffer, sizeof buffer, fds, &nfds);
        if (size == 0 || size == -ECONNRESET)
            return false;
        const struct lis_file_reply *reply = (const struct lis_file_reply *)buffer;
        require(size >= (ssize_t)sizeof *reply && lis_message_kind(reply, size) == LIS_FILE);
        bool opened = is_first && reply->err == 0 && (op == LIS_OPEN_READ || op == LIS_OPEN_WRITE);
        require(reply->err >= 0 && nfds == (opened ? 1 : 0));
        if (opened)
            check_fd(fds[0], op);
        require(op == LIS_LIST || reply->more == (opened && op == LIS_OPEN_WRITE));
        if (reply->more && op == LIS_LIST)
            check_entry(reply, (size_t)size);
        else
            require(size == sizeof *reply);
        if (!reply->more)
            return true;
    }
}

static size_t next_message(struct input *input, char message[MOST_BYTES]) {
    size_t size, wanted = input_u16(input), padding = input_u16(input) % (MOST_BYTES / 2);
    const uint8_t *bytes = input_bytes(input, wanted < MOST_BYTES / 2 ? wanted : MOST_BYTES / 2 - 1, &size);
    memcpy(message, bytes, size);
    memset(message + size, 'x', padding);
    size += padding;
    if (padding)
        message[size++] = 0;
    return size;
}

/* The server decodes in a buffer that is larger than the message; here the sanitizer sees what is read beyond its end. */
static void check_decoder(const char *message, size_t size) {
    char *copy = exact_copy(message, size);
    const char *path = NULL, *second = NULL;
    int r = lis_file_request_decode((const struct lis_file_request *)(void *)copy, (ssize_t)size, &path, &second);
    require(r == 0 ? path && second : !path && !second);
    if (r == 0) {
        require(path == copy + sizeof(struct lis_file_request) && path[0] == '/' && strlen(path) < 4096);
        require(strlen(second) < 4096 && (second[0] == 0 || second == path + strlen(path) + 1));
    } else {
        require(r == -EPROTO || r == -EINVAL || r == -ENAMETOOLONG);
    }
    free(copy);
}

static int connect_server(void) {
    int pair[2];
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    require(write(handover[1], &pair[1], sizeof pair[1]) == (ssize_t)sizeof pair[1]);
    return pair[0];
}

/* Waits until the server has closed its end, so that its number is free when the input is over. */
static void disconnect(int sock) {
    char byte;
    shutdown(sock, SHUT_WR);
    require(recv(sock, &byte, 1, 0) <= 0);
    close(sock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _Alignas(struct lis_file_request) static char message[MOST_BYTES];
    struct input input = {data, size};
    int before = free_number(), sock = -1;
    make_all();
    for (int i = 0; i < MOST_RECORDS && input.left > 0; i++) {
        size_t length = next_message(&input, message);
        check_decoder(message, length);
        uint32_t op = 0;
        if (length >= sizeof(struct lis_file_request))
            op = ((struct lis_file_request *)(void *)message)->op;
        if (sock < 0)
            sock = connect_server();
        require(lis_send(sock, message, length, NULL, 0) == 0);
        if (!take_answer(sock, op)) {
            close(sock);
            sock = -1;
        }
    }
    if (sock >= 0)
        disconnect(sock);
    remove_all();
    require(free_number() == before);
    return 0;
}
