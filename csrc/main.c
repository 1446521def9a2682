/* lisrt-helper: the half of lisrt that lives on the other side of exec.
 *
 * Theory of operation
 *
 *   Python ──exec──> spawner ──clone──> init (PID 1 of one sandbox) ──clone──> commands
 *
 * Modes: spawn, and spawn-bwrap where bubblewrap makes the sandboxes; init, which bubblewrap executes; run, for programs of
 * the host that are asked about bubblewrap; tether, for the one that runs beside; collect-subuid, which deletes what other ids
 * have left.
 *
 * spawner  one per Python process, small and single-threaded, so that cloning it is cheap and safe while Python has many
 *          threads and gigabytes. Owns the outer user namespace U0 and PID 1 of a pid namespace around all sandboxes.
 *          Ends when its control socket closes or its owner's pidfd fires; then everything below it is killed.
 * init     a fork of the spawner that carried out a Plan (setup.c), gave all privileges up and serves one control socket.
 * trash    a nice child of the spawner that deletes what finished sandboxes wrote.
 * files    a child of init for each connection of file requests; opens inside the root and passes descriptors out.
 *
 * Sockets, all SEQPACKET:
 *   Python–spawner   CREATE carries a new socket's end, which becomes the sandbox's control socket
 *   Python–init      GO, if it follows another sandbox; READY or FAULT; then EXEC, FILES and DIAL, each of which carries an end of
 *                    a socket of its own
 *   Python–command   the answer (EXITED, NOT_STARTED); closing or shutting it down kills the command and all it started
 *
 * So nobody has to sort answers by request, requests from many threads need no lock, and to forget one is to end it.
 * stdin, stdout and stderr travel with EXEC as descriptors: no byte of them passes through init. Nor of connections: those that
 * programs make to the proxy are handed out (gateway.c), and so are those that the host asks for (dial.c).
 *
 * Files: plan.c decodes and checks a Plan with no side effect; host.c, ahead.c and setup.c carry it out, or
 * bwrap.c and copy.c do; seccomp.c and assembly.c make the filter; target.c, process.c, wire.c, fault.c serve all; command.c and
 * tree.c start and kill; trash.c deletes; probe*.c are `lisrt doctor`'s. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lis.h"
#include "outside.h"

/* What PID 1 of every sandbox would show to whoever asks `ps`: no path of the host among it. */
static char *take(char *argument) {
    char *copy = strdup(argument);
    memset(argument, 0, strlen(argument));
    return copy;
}

static bool take_number(char *argument, uint32_t *ret) {
    unsigned long number = strtoul(argument, NULL, 10);
    *ret = (uint32_t)number;
    memset(argument, 0, strlen(argument));
    return number < UINT32_MAX;
}

/* Six arguments: the tools, then first and count of the users' ids and of the groups'. */
static bool take_ranges(char **argv, struct lis_id_ranges *ret) {
    ret->uid_tool = take(argv[0]);
    ret->gid_tool = take(argv[1]);
    return ret->uid_tool && ret->gid_tool && take_number(argv[2], &ret->uid) && take_number(argv[3], &ret->uids) &&
           take_number(argv[4], &ret->gid) && take_number(argv[5], &ret->gids);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? take(argv[1]) : NULL;
    struct lis_id_ranges ranges;
    if (mode && (argc == 3 || argc == 9) && strcmp(mode, "spawn") == 0) {
        const char *owner_path = take(argv[2]);
        if (!owner_path || (argc == 9 && !take_ranges(argv + 3, &ranges)))
            return 1;
        return lis_spawn_main(owner_path, NULL, argc == 9 ? &ranges : NULL);
    }
    if (mode && argc == 9 && strcmp(mode, "collect-subuid") == 0)
        return take_ranges(argv + 3, &ranges) ? lis_collect_main(argv[2], &ranges) : 1;
    if (mode && argc >= 3 && strcmp(mode, "probe") == 0)
        return lis_probe_main(argc - 2, argv + 2);
    if (mode && argc == 5 && strcmp(mode, "spawn-bwrap") == 0) {
        const char *owner_path = take(argv[2]), *program = take(argv[3]), *root = take(argv[4]);
        if (!owner_path || !program || !root)
            return 1;
        struct lis_bwrap bwrap = {.program = program, .overlay = strcmp(root, "overlay") == 0};
        return lis_spawn_main(owner_path, &bwrap, NULL);
    }
    if (mode && argc == 2 && strcmp(mode, "init") == 0) {
        memset(argv[0], 0, strlen(argv[0])); /* the number of a descriptor */
        return lis_bwrap_init_main();
    }
    if (mode && argc > 2 && strcmp(mode, "run") == 0)
        return lis_run_main(argv + 2);
    if (mode && argc > 2 && (strcmp(mode, "tether") == 0 || strcmp(mode, "tether-inside") == 0))
        return lis_tether_main(argv + 2, mode[strlen("tether")] != 0);
    fprintf(stderr, "lisrt-helper is started by lisrt; it has no use by hand.\n");
    return 100;
}
