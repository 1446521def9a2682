/* Modes are set for what was looked at, never for what a link leads to. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lis.h"
#include "outside.h"
#include "tap.h"

static mode_t mode_of(int dir, const char *name) {
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode & 07777;
}

int main(void) {
    char template_[] = "/tmp/lift-XXXXXX";
    int dir = open(tap_directory(template_), O_RDONLY | O_DIRECTORY);
    mode_t mode = 0;
    check(mkdirat(dir, "closed", 0) == 0 && fchmodat(dir, "closed", 02077, 0) == 0, "a directory that is closed");
    close(openat(dir, "file", O_CREAT | O_WRONLY, 0));
    symlinkat("closed", dir, "link");
    mkfifoat(dir, "fifo", 0);

    check(lis_lift(dir, "link", O_DIRECTORY, &mode) == -ENOTDIR, "a link is no directory, whatever it leads to");
    check(lis_lift(dir, "link", 0, &mode) == -ELOOP, "nor anything else");
    check(lis_lift(dir, "fifo", 0, NULL) == -ELOOP && mode_of(dir, "fifo") == 0, "what is no file is left alone");
    check(lis_lift(dir, "file", O_DIRECTORY, NULL) == -ENOTDIR && mode_of(dir, "file") == 0,
          "so are files, if so asked");
    check(lis_lift(dir, "none", 0, NULL) == -ENOENT, "nothing is there");
    check(mode_of(dir, "closed") == 02077, "all of that has changed nothing");

    int holder = lis_lift(dir, "closed", O_DIRECTORY, &mode);
    check(holder >= 0 && mode == 02077 && mode_of(dir, "closed") == 02777, "a directory is opened for its owner");
    check(faccessat(holder, ".", W_OK, 0) == 0, "and can be used by what was returned");
    check(lis_lift(dir, "file", 0, &mode) >= 0 && mode == 0 && mode_of(dir, "file") == 0700, "a file is, too");
    lis_remove_tree(AT_FDCWD, template_);
    return tap_done();
}
