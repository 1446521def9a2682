/* Deleting what untrusted code made. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lis.h"
#include "outside.h"
#include "tap.h"

static bool exists(int dir, const char *name) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_file(int dir, const char *name) {
    close(openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static void test_odd_tree(int dir) {
    mkdirat(dir, "odd", 0700);
    mkdirat(dir, "odd/a", 0700);
    mkdirat(dir, "odd/a/b", 0700);
    make_file(dir, "odd/a/b/file");
    make_file(dir, "odd/.trash-0"); /* the name that it would choose itself */
    mkdirat(dir, "odd/.trash-1", 0700);
    make_file(dir, "odd/.trash-1/full");
    mkfifoat(dir, "odd/fifo", 0600);
    symlinkat("/", dir, "odd/root");
    make_file(dir, "kept");
    symlinkat("../kept", dir, "odd/link");
    mkdirat(dir, "odd/locked", 0000);
    mkdirat(dir, "odd/a/closed", 0700);
    make_file(dir, "odd/a/closed/file");
    fchmodat(dir, "odd/a/closed", 0000, 0);
    check(lis_remove_tree(dir, "odd") == 0, "a tree of odd things is removed");
    check(!exists(dir, "odd"), "and nothing of it is left");
    check(exists(dir, "kept"), "what its links pointed at is still there");
}

static void test_deep_tree(int dir) {
    enum { DEPTH = 3000 };
    int at = dup(dir);
    for (int i = 0; i < DEPTH; i++) {
        mkdirat(at, "d", 0700);
        int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    make_file(at, "bottom");
    close(at);
    struct rlimit few = {32, 32}, before;
    getrlimit(RLIMIT_NOFILE, &before);
    few.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_NOFILE, &few);
    check(lis_remove_tree(dir, "d") == 0, "a tree %d deep is removed with 32 descriptors", DEPTH);
    setrlimit(RLIMIT_NOFILE, &before);
    check(!exists(dir, "d"), "and nothing of it is left");
}

static void test_missing(int dir) {
    check(lis_remove_tree(dir, "nothing") == -ENOENT, "what is not there is reported");
    symlinkat("kept", dir, "link");
    check(lis_remove_tree(dir, "link") < 0 && exists(dir, "kept"), "a link is not followed");
    unlinkat(dir, "link", 0);
    unlinkat(dir, "kept", 0);
}

static void test_collect(int dir) {
    mkdirat(dir, "dead", 0700);
    make_file(dir, "dead/file");
    mkdirat(dir, "alive", 0700);
    int owner = openat(dir, "alive", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    flock(owner, LOCK_EX);
    check(lis_collect(dir) == 1, "one dead owner is found");
    check(!exists(dir, "dead"), "its directory is removed");
    check(exists(dir, "alive"), "that of a living one stays");
    close(owner);
    check(lis_collect(dir) == 1 && !exists(dir, "alive"), "until it has died, too");
}

int main(void) {
    char path[] = "/tmp/lisrt-trash-XXXXXX";
    int dir = open(tap_directory(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_odd_tree(dir);
    test_deep_tree(dir);
    test_missing(dir);
    test_collect(dir);
    unlinkat(dir, ".lock", 0);
    close(dir);
    check(rmdir(path) == 0, "the test leaves nothing behind");
    return tap_done();
}
