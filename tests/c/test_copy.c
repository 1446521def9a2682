/* A root that is a copy of layers; and places in a root with links in it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lis.h"
#include "outside.h"
#include "tap.h"

static int open_new(int dir, const char *name) {
    mkdirat(dir, name, 0755);
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void put(int dir, const char *name, const char *text, mode_t mode) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fchmod(fd, mode) == 0, "%s is there",
          name);
    close(fd);
}

static bool holds(int dir, const char *name, const char *text) {
    char found[64] = "";
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, found, sizeof found - 1);
    close(fd);
    return got >= 0 && strcmp(found, text) == 0;
}

static mode_t mode_of(int dir, const char *name) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static void test_one_layer(int dir) {
    int from = open_new(dir, "from"), to = open_new(dir, "to");
    put(from, "file", "text", 0640);
    put(from, "empty", "", 0755);
    const struct timespec times[2] = {{1000, 5}, {2000, 7}};
    utimensat(from, "file", times, 0);
    mkdirat(from, "closed", 0700);
    put(from, "closed/inner", "x", 0600);
    fchmodat(from, "closed", 0500, 0);
    mkdirat(from, "tmp", 0777);
    fchmodat(from, "tmp", 01777, 0);
    symlinkat("/nowhere/at all", from, "link");
    mkfifoat(from, "fifo", 0600);
    fchmod(from, 0711);
    umask(027);
    check(lis_copy_layer(from, to, false) == 0, "a layer is copied");
    check(umask(022) == 027, "the mask is as before");
    struct stat st;
    fstat(to, &st);
    check((st.st_mode & 07777) == 0711, "the root has its mode");
    check(holds(to, "file", "text") && mode_of(to, "file") == (S_IFREG | 0640), "a file has its bytes and mode");
    fstatat(to, "file", &st, 0);
    check(st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7 && st.st_nlink == 1,
          "and its time, and is nobody else's");
    check(holds(to, "empty", "") && mode_of(to, "empty") == (S_IFREG | 0755), "an empty file too");
    check(holds(to, "closed/inner", "x") && mode_of(to, "closed") == (S_IFDIR | 0500), "a closed directory too");
    check(mode_of(to, "tmp") == (S_IFDIR | 01777), "a sticky directory too");
    char target[64] = "";
    check(readlinkat(to, "link", target, sizeof target - 1) > 0 && strcmp(target, "/nowhere/at all") == 0,
          "a link too");
    check(mode_of(to, "fifo") == (S_IFIFO | 0600), "a FIFO too, without waiting at it");
    put(to, "file", "changed", 0640);
    check(holds(from, "file", "text"), "what is done to the copy is not done to the layer");
    close(from);
    close(to);
}

static void test_layers_over_each_other(int dir) {
    int low = open_new(dir, "low"), high = open_new(dir, "high"), to = open_new(dir, "both");
    put(low, "kept", "low", 0644);
    put(low, "replaced", "low", 0644);
    put(low, "removed", "low", 0644);
    mkdirat(low, "merged", 0755);
    put(low, "merged/low", "low", 0644);
    mkdirat(low, "hidden", 0755);
    put(low, "hidden/low", "low", 0644);
    mkdirat(low, "becomes-file", 0755);
    put(low, "becomes-file/low", "low", 0644);
    symlinkat("/", low, "becomes-directory");
    put(high, "replaced", "high", 0600);
    check(mknodat(high, "removed", S_IFCHR, 0) == 0, "a whiteout can be made");
    mkdirat(high, "merged", 0700);
    put(high, "merged/high", "high", 0644);
    mkdirat(high, "hidden", 0755);
    int hidden = openat(high, "hidden", O_RDONLY | O_CLOEXEC);
    bool opaque = fsetxattr(hidden, "user.overlay.opaque", "y", 1, 0) == 0;
    close(hidden);
    put(high, "becomes-file", "high", 0644);
    mkdirat(high, "becomes-directory", 0755);
    put(high, "becomes-directory/high", "high", 0644);
    check(lis_copy_layer(low, to, false) == 0 && lis_copy_layer(high, to, true) == 0, "two layers are copied");
    check(holds(to, "kept", "low") && holds(to, "replaced", "high"), "the upper one wins");
    check(mode_of(to, "removed") == 0, "a whiteout removes, and is not there itself");
    check(holds(to, "merged/low", "low") && holds(to, "merged/high", "high"), "directories are merged");
    check(mode_of(to, "merged") == (S_IFDIR | 0700), "and have the upper one's mode");
    check(!opaque || mode_of(to, "hidden/low") == 0, "an opaque one hides what was in it");
    check(holds(to, "becomes-file", "high"), "a file takes the place of a directory");
    check(holds(to, "becomes-directory/high", "high") && mode_of(to, "becomes-directory") == (S_IFDIR | 0755),
          "a directory takes the place of a link, and nothing is written where that leads");
    close(low);
    close(high);
    close(to);
}

static void test_places(int dir) {
    int root = open_new(dir, "root"), outside = open_new(dir, "outside");
    symlinkat("../outside", root, "evil");
    symlinkat("nothing", root, "dangling");
    put(root, "file", "x", 0644);
    bool made = false;
    check(lis_open_target(root, "evil/x", false, true, NULL) == -ELOOP, "no way leads through a link");
    check(lis_open_target(root, "dangling", true, true, NULL) == -ELOOP, "nor to one that leads nowhere");
    check(lis_open_target(root, "file/x", false, true, NULL) == -ENOTDIR, "nor through a file");
    check(lis_open_target(root, "new/a", false, false, NULL) == -EROFS, "nothing is made where nothing may be");
    int place = lis_open_target(root, "new/a", true, true, &made);
    check(place >= 0 && made && holds(root, "new/a", ""), "else it is made, with its parents");
    close(place);
    check(faccessat(outside, "x", F_OK, 0) < 0, "outside there is nothing new");
    check(lis_check_target(root, "evil/x", false) == -ELOOP, "a check sees the link, too");
    check(lis_check_target(root, "new/b", false) == 0 && lis_check_target(root, "new", false) == 1,
          "and what is there");
    check(lis_check_target(root, "new", true) == -EISDIR && lis_check_target(root, "file", false) == -ENOTDIR,
          "and of what type");
    close(root);
    close(outside);
}

int main(void) {
    char template_[] = "/tmp/lisrt-test-copy-XXXXXX";
    int dir = open(tap_directory(template_), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_one_layer(dir);
    test_layers_over_each_other(dir);
    test_places(dir);
    close(dir);
    check(lis_remove_tree(AT_FDCWD, template_) == 0, "the test cleans up");
    return tap_done();
}
