/* What dead owners have left: the record goes last, and powers that `lisrt gc` lacks are not needed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lis.h"
#include "outside.h"
#include "tap.h"
#include "util.h"

static bool exists(int dir, const char *name) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_file(int dir, const char *name, const char *text) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s is written", name);
    close(fd);
}

static void make_owner(int dir, const char *name, const char *record) {
    char path[64];
    mkdirat(dir, name, 0700);
    snprintf(path, sizeof path, "%s/owner", name);
    if (record)
        make_file(dir, path, record);
    snprintf(path, sizeof path, "%s/b1", name);
    mkdirat(dir, path, 0700);
}

static void test_read_only_directories(int dir) {
    make_owner(dir, "dead", "lisrt-owner 1\n");
    mkdirat(dir, "dead/b1/u", 0700);
    mkdirat(dir, "dead/b1/u/d", 0700);
    make_file(dir, "dead/b1/u/d/file", "x");
    fchmodat(dir, "dead/b1/u/d", 0500, 0);
    fchmodat(dir, "dead/b1/u", 0300, 0);
    mkdirat(dir, "dead/b1/w", 0700);
    mkdirat(dir, "dead/b1/w/work", 0);
    check(lis_owner_remove(dir, "dead", UINT64_MAX) == 0 && !exists(dir, "dead"),
          "directories of any mode are removed");
}

static void test_the_record_goes_last(int dir) {
    make_owner(dir, "dead", "lisrt-owner 1\n");
    char path[64];
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "dead/b1/%d", i);
        mkdirat(dir, path, 0700);
    }
    check(lis_owner_remove(dir, "dead", 0) == -ETIME, "a deadline that has passed is told");
    check(exists(dir, "dead/owner"), "and the record is still there");
    check(lis_owner_remove_within(dir, "dead", 60000) == 0 && !exists(dir, "dead"), "the rest goes the next time");
}

/* ramfs stands for every file system that is not known to be this host's alone */
static void test_shared_file_system(void) {
    char path[] = "/tmp/lisrt-owner-XXXXXX", record[1024], boot[64] = "", host[256] = "";
    tap_directory(path);
    uid_t uid = geteuid();
    gid_t gid = getegid();
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || lis_map_ids(proc, 0, 0, uid, gid) < 0 ||
        mount("none", path, "ramfs", 0, "mode=700") < 0) {
        printf("# no user namespaces here: the shared file system is not simulated\n");
        rmdir(path);
        return;
    }
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    check(fd >= 0 && read(fd, boot, sizeof boot - 1) == 37, "the boot id is read");
    close(fd);
    gethostname(host, sizeof host - 1);
    make_owner(dir, "silent", NULL);
    make_owner(dir, "foreign", "lisrt-owner 1\nboot 0-0\nhost another\n");
    snprintf(record, sizeof record, "lisrt-owner 1\nboot %shost another\n", boot);
    make_owner(dir, "container", record);
    snprintf(record, sizeof record, "lisrt-owner 1\nboot 0-0\nhost %s\n", host);
    make_owner(dir, "rebooted", record);
    snprintf(record, sizeof record, "lisrt-owner 1\nboot 0-0\nhost %sx\nprogram host %s\n", host, host);
    make_owner(dir, "similar", record);
    check(lis_collect(dir) == 2, "two are of this host");
    check(!exists(dir, "container"), "one of this boot, whatever its host is called");
    check(!exists(dir, "rebooted"), "one of this host, before it was started again");
    check(exists(dir, "foreign") && exists(dir, "similar"),
          "those of other hosts stay, though nobody holds their lock");
    check(exists(dir, "silent"), "and those that don't say");
    close(dir);
    umount2(path, MNT_DETACH);
    check(rmdir(path) == 0, "the test leaves nothing behind");
}

int main(void) {
    char path[] = "/tmp/lisrt-owner-XXXXXX";
    int dir = open(tap_directory(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_read_only_directories(dir);
    test_the_record_goes_last(dir);
    close(dir);
    check(rmdir(path) == 0, "the test leaves nothing behind");
    test_shared_file_system();
    return tap_done();
}
