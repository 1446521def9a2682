/* All probes in one run, under the sanitizers too: a line for each, in order, and every directory is gone afterwards. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe.h"
#include "tap.h"

/* In a process of its own: lis_probe_main leaves the session and ignores signals for good. */
static char *output_of(int count, char **names) {
    static char text[65536];
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        exit(99);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        _exit(lis_probe_main(count, names));
    }
    close(pipe_fds[1]);
    size_t size = 0;
    ssize_t more;
    while ((more = read(pipe_fds[0], text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)more;
    text[size] = 0;
    close(pipe_fds[0]);
    int status = -1;
    waitpid(pid, &status, 0);
    check(status == 0, "exits 0");
    return text;
}

static bool is_empty(const char *path) {
    DIR *dir = opendir(path);
    int entries = 0;
    while (dir && readdir(dir))
        entries++;
    if (dir)
        closedir(dir);
    return entries == 2;
}

int main(void) {
    const struct lis_probe *const tables[] = {lis_namespace_probes, lis_file_probes, lis_call_probes,
                                              lis_network_probes};
    char template_[] = "/tmp/lisrt-test-XXXXXX", place[64], cgroup[] = "cgroup=/nonesuch", nonesuch[] = "nonesuch";
    const char *dir = tap_directory(template_);
    snprintf(place, sizeof place, "overlay=%s", dir);
    char *names[64];
    int count = 0;
    for (size_t i = 0; i < 4; i++)
        for (const struct lis_probe *probe = tables[i]; probe->name; probe++)
            if (probe->place == LIS_PLACE_NONE)
                names[count++] = strdup(probe->name);
    names[count++] = place;
    names[count++] = cgroup;
    names[count++] = nonesuch;
    char *line = strtok(output_of(count, names), "\n");
    for (int i = 0; i < count; i++, line = strtok(NULL, "\n")) {
        size_t length = strlen(names[i]);
        check(line && strncmp(line, names[i], length) == 0 && line[length] == '\t', "a line for %s", names[i]);
        check(line && strstr(line + length, "killed by") == NULL, "%s is not killed", names[i]);
    }
    check(!line, "no line more");
    check(is_empty(dir), "the overlay's directory is gone");
    check(rmdir(dir) == 0, "and nothing else is left there");
    for (int i = 0; i < count - 3; i++)
        free(names[i]);
    return tap_done();
}
